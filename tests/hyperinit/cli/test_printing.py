"""What reaches the terminal: no control characters, no tracebacks for streams that cannot be written."""

import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from hyperinit import errors
from hyperinit.cli import printing
from hyperinit.errors import ArgumentError


def run(*argv, **words):
    """Run the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hyperinit", *argv], capture_output=True, text=True, check=False, **words
    )


def test_control_characters_are_shown_as_escapes(capsys):
    printing.show("a\x1b[31mb\u202ec\n\td", None, as_json=False)
    printing.tell("x\x07y\udcff")
    out, err = capsys.readouterr()
    assert out == "a\\x1b[31mb\\u202ec\n\td\n"
    assert err == "x\\x07y\\udcff\n"


def test_letters_that_the_terminal_lacks_are_shown_as_escapes(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    printing.show("Schürholt", None, as_json=False)
    assert raw.getvalue() == b"Sch\\xfcrholt\n"


def test_json_has_no_nan(capsys):
    printing.show("", {"a": [float("nan"), 1.5, float("-inf")], "b": (1, None)}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, None], "b": [1, None]}


def test_warnings_of_the_library_are_messages_of_one_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        with printing.warnings_told():
            warnings.warn("not usable\x1b", errors.UnusableWarning, stacklevel=1)
            warnings.warn("the cache cannot be written", RuntimeWarning, stacklevel=1)
        assert warnings.showwarning is before
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hyperinit: warning: not usable\\x1b\nhyperinit: warning: the cache cannot be written\n")


def test_a_full_stdout_is_an_error(monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(
        ArgumentError, match=r"^stdout must be a place that can be written, got: No space left on device$"
    ):
        printing.show("text", None, as_json=False)


def test_a_reader_that_has_gone_is_no_error(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    printing.show("text", None, as_json=False)
    printing.tell("text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argv", [["info"], ["--help"]])
def test_a_full_device_ends_without_a_traceback(artifact, argv):
    command = [*argv[:1], str(artifact), *argv[1:]] if argv[0] in ("info", "methods") else argv
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hyperinit", *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if command != argv:
        assert (done.returncode, done.stderr.split(":")[1]) == (1, " stdout must be a place that can be written, got")


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(artifact, streams):
    command = f"{sys.executable} -m hyperinit info {artifact} {streams}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_card_with_any_letters_is_printed_on_a_terminal_for_ascii(forge):
    def edit(header, tensors):
        header["card"]["title"] = "Zürich → 東京"

    path = forge(edit)
    done = run("info", str(path), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny - Z\\xfcrich \\u2192 \\u6771\\u4eac" in done.stdout
