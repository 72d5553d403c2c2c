"""The progress that is shown: a bar on a terminal, and lines elsewhere."""

import io
import re
import sys
import time

import pytest

from hyperinit_training.machine import processes, progress
from hyperinit_training.machine.progress import Progress, tracked


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.delenv("HYPERINIT_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.02)


def wait_for(said):
    until = time.monotonic() + 20
    while not said() and time.monotonic() < until:
        time.sleep(0.01)
    assert said()


def test_lines_are_printed_without_a_terminal_while_nothing_is_finished(quick, capsys):
    """A log file then shows that a step that takes minutes is alive, and what it does."""
    seen = ""

    def read():
        nonlocal seen
        seen += capsys.readouterr().err
        return seen

    with Progress("zoo", 160, "model") as bar:
        bar.say("compiling")
        wait_for(lambda: "zoo: 0 of 160 models, compiling\n" in read())
        bar.say("")
        bar.advance(40)
        wait_for(lambda: re.search(r"zoo: 40 of 160 models, 0:0\d left\n", read()))
        bar.advance(120)
    assert read().splitlines()[-1] == "zoo: 160 of 160 models, 0:00 left"
    assert "\r" not in seen


def test_a_short_step_prints_nothing_without_a_terminal(capsys):
    with Progress("zoo", 2, "model") as bar:
        bar.advance(2)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_moves_while_nothing_is_finished(quick, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("zoo", 160, "model", done=10) as bar:
        bar.say("compiling")
        wait_for(lambda: terminal.getvalue().count("compiling") > 3)
        bar.advance(0.5)
        bar.say("loss 0.500, R2 0.750")
    last = terminal.getvalue().rstrip().split("\r")[-1]
    assert "zoo" in last
    assert "10.5/160" in last
    assert "loss 0.500, R2 0.750" in last


def test_a_note_fits_into_80_columns(monkeypatch):
    """Losses were cut at the border of the window."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with Progress("autoencoder", 24_500, "step", done=20_000) as bar:
        bar.advance(4_000)
        bar.say("loss 0.123, R2 0.987")
    last = terminal.getvalue().rstrip().split("\r")[-1]
    assert last.endswith("loss 0.123, R2 0.987]")


def test_the_time_left_does_not_count_what_an_earlier_run_did():
    bar = Progress("zoo", 100, "model", done=50)
    bar.began -= 100
    assert bar.text() == "zoo: 50 of 100 models"
    bar.advance(10)
    assert bar.text() == "zoo: 60 of 100 models, 6:40 left"
    bar.start(90)
    bar.advance(5)
    assert bar.text() == "zoo: 95 of 100 models, 1:40 left"


@pytest.mark.parametrize(
    ("done", "total", "unit", "expected"),
    [
        (0, 1, "model", "0 of 1 model"),
        (24_500, 1_000_000, "step", "24,500 of 1,000,000 steps"),
        (0.25, 2, "model", "0.2 of 2 models"),
    ],
)
def test_numbers_are_written_out(done, total, unit, expected):
    assert Progress("zoo", total, unit, done=done).text() == f"zoo: {expected}"


@pytest.mark.parametrize("why", ["rank", "environment"])
def test_nothing_is_shown_where_it_is_not_wanted(quick, monkeypatch, capsys, why):
    if why == "rank":
        monkeypatch.setattr(processes, "is_first", lambda: False)
    else:
        monkeypatch.setenv("HYPERINIT_PROGRESS", "0")
    with Progress("zoo", 2, "model") as bar:
        time.sleep(0.1)
        bar.advance(1)
    assert capsys.readouterr().err == ""


def test_an_error_ends_the_bar(quick, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), Progress("zoo", 2, "model") as bar:
        raise KeyboardInterrupt
    assert not bar._thread.is_alive()


def test_the_item_in_work_is_named(quick, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name in tracked("measuring", ["kde", "local"], "method"):
        wait_for(lambda name=name: name in terminal.getvalue())
    assert "2/2" in terminal.getvalue().rstrip().split("\r")[-1]
