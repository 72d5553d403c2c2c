"""Commands, exit codes and where messages go."""

import hashlib
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import safetensors

import hyperinit
from hyperinit.cli import program
from hyperinit.samplers import METHODS


def run(*argv):
    """Exit code of one command, whether it is returned or raised."""
    try:
        return program.main(list(argv))
    except SystemExit as error:
        return error.code


@pytest.fixture
def entries(monkeypatch):
    """Replace the installed entry points of the command line."""

    def put(*found):
        def entry_points(*, group, name):
            assert group == "hyperinit.commands"
            return EntryPoints(EntryPoint(n, value, group) for n, value in found if n == name)

        monkeypatch.setattr(program, "entry_points", entry_points)

    return put


def test_sources_lists_names_and_titles(embedded, capsys):
    assert run("sources") == 0
    assert capsys.readouterr().out == "tiny  an untrained source for tests\n"


def test_sources_without_any(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hyperinit.hub.sources, "FOLDER", tmp_path)
    assert run("sources") == 0
    assert capsys.readouterr().out.strip() == ""


def test_methods_lists_every_method_with_its_accuracy(embedded, capsys):
    assert run("methods", "tiny") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert all("% before any training" in line for line in lines)
    assert [line.split()[0] for line in lines if line.endswith("; recommended")] == ["kde30"]


def test_info_prints_the_card_of_a_path(artifact, tiny, capsys):
    assert run("info", str(artifact)) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tiny.card}\n\nnetwork      3 conv2d layers, 2 linear layers\nactivation   Tanh\n")
    assert f"{artifact.stat().st_size / 1e6:.1f} MB; networks of 2,464 weights" in out
    assert hashlib.sha256(artifact.read_bytes()).hexdigest() in out


@pytest.mark.parametrize("command", ["info", "methods"])
def test_an_unknown_source_is_explained_on_stderr(embedded, capsys, command):
    assert run(command, "tinny") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hyperinit: unknown source 'tinny'; did you mean 'tiny'?")
    assert "Traceback" not in err


def test_a_damaged_file_is_explained_on_stderr(artifact, capsys):
    artifact.write_bytes(artifact.read_bytes()[:1000])
    assert run("info", str(artifact)) == 1
    assert f"hyperinit: {artifact} must be a whole hyper-representation file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [(), ("sorces",), ("sources", "--jsn"), ("info",), ("info", "a", "b"), ("sources", "--fast")]
)
def test_wrong_usage_ends_with_two(argv, capsys):
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: hyperinit" in err


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["sorces"], "unknown command 'sorces'; did you mean 'sources'"),
        (["demos"], "unknown command 'demos'; did you mean 'demo'"),
        (["zzz"], "unknown command 'zzz'; choose from sources, "),
        (["info", "a", "--jsn"], "unrecognized arguments: --jsn; did you mean '--json'?"),
    ],
)
def test_unknown_names_end_with_the_nearest(argv, near, capsys):
    assert run(*argv) == 2
    assert near in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, title in {
        "sources": "list the available sources",
        "sample": "sample networks",
        **program.TRAINING,
    }.items():
        assert f" {name} {title}" in text
    assert "Exit codes: 0 done" in text


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"hyperinit {hyperinit.__version__}\n"


@pytest.mark.parametrize("name", ["sources", "methods", "info", "plan", "sample", "pull", "cache", "registry"])
def test_the_help_of_each_command_has_examples(name, capsys):
    assert run(name, "--help") == 0
    out = capsys.readouterr().out
    assert f"examples:\n  hyperinit {name}" in out
    assert "--json" in out


def test_an_interruption_prints_no_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(hyperinit, "sources", interrupted)
    assert run("sources") == 130
    assert capsys.readouterr().err.startswith("hyperinit: interrupted; run the same command again to resume")


@pytest.mark.parametrize("name", program.TRAINING)
def test_training_commands_are_found_by_entry_point(entries, monkeypatch, name):
    seen = []

    def command(arguments):
        seen.append(list(arguments))
        return 7

    entries((name, "hyperinit.fake:command"))
    monkeypatch.setattr(EntryPoint, "load", lambda self: command)
    assert run(name, "recipe", "--help") == 7
    assert seen == [["recipe", "--help"]]


def test_errors_of_a_training_command_are_explained(entries, monkeypatch, capsys):
    def command(arguments):
        raise hyperinit.HyperinitError("no such recipe")

    entries(("zoo", "hyperinit.fake:command"))
    monkeypatch.setattr(EntryPoint, "load", lambda self: command)
    assert run("zoo") == 1
    assert capsys.readouterr().err == "hyperinit: no such recipe\n"


@pytest.mark.parametrize("name", program.TRAINING)
@pytest.mark.parametrize("found", [[], ["hyperinit_that_is_not_there.cli:command"]], ids=["no entry", "no module"])
def test_without_the_training_extra_the_pip_command_is_named(entries, capsys, name, found):
    entries(*((name, value) for value in found))
    assert run(name) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"hyperinit: `hyperinit {name}` needs `pip install hyperinit[train]`, got: ")


def test_runtime_commands_need_no_entry_point(entries, embedded, capsys):
    entries()
    assert run("sources") == 0


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "/data/a"), safetensors.SafetensorError("No space left on device")]
)
def test_errors_of_the_system_are_explained(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr(hyperinit, "sources", fail)
    assert run("sources") == 1
    assert capsys.readouterr().err.startswith("hyperinit: No space left on device")


def test_programming_errors_are_not_hidden(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(hyperinit, "sources", fail)
    with pytest.raises(ZeroDivisionError):
        run("sources")


def test_the_module_runs_as_a_program(artifact):
    done = subprocess.run(
        [sys.executable, "-m", "hyperinit", "info", str(artifact)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("source       tiny")
    assert done.stderr == ""


def test_the_module_exits_with_the_code_of_the_command():
    command = [sys.executable, "-m", "hyperinit", "info", "./none.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hyperinit: source must be a name or an existing .safetensors file")


def test_a_closed_pipe_is_no_error(artifact):
    """`hyperinit info X | head -0` must not end in a traceback at exit."""
    command = [sys.executable, "-m", "hyperinit", "info", str(artifact)]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(60), error) == (0, "")
