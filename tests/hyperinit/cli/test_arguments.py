"""Options and numbers as they are typed, and messages in the words of the command line."""

import argparse

import pytest

from hyperinit.cli import arguments
from hyperinit.cli.arguments import Parser, as_typed, check_amount, check_seed, in_options
from hyperinit.errors import ArgumentError, UnknownNameError

OPTIONS = {
    "data": "--data",
    "skip_bad": "--skip-bad",
    "fit": "--fit",
    "minutes": "--minutes",
    "example_input": "--input",
}


@pytest.fixture
def parser():
    made = Parser(prog="hyperinit do", also={"count": "--n"})
    made.add_argument("source")
    made.add_argument("--n", type=int)
    made.add_argument("--skip-bad", action="store_true")
    return made


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass skip_bad=True to skip them", "pass --skip-bad to skip them"),
        ("svhn needs data=FOLDER", "svhn needs --data FOLDER"),
        ("Then pass data='x/y' in Python or --data x/y on the command line.", "Then pass --data x/y."),
        ("fit='exact' needs the source's tensors", "--fit exact needs the source's tensors"),
        ("minutes must be above 0, got inf", "--minutes must be above 0, got inf"),
        ("its symmetries are unknown: pass example_input", "its symmetries are unknown: pass --input"),
        ("Pass evaluate= (on the command line: --evaluate).", "Pass --evaluate."),
        ("skip-bad must be set", "--skip-bad must be set"),
        ("the minutes must pass", "the minutes must pass"),
        ("data.npz must be a file", "data.npz must be a file"),
        ("pass my-data=1", "pass my-data=1"),
        ("other=3 must be left out", "other=3 must be left out"),
    ],
)
def test_messages_name_options(message, expected):
    assert in_options(message, OPTIONS) == expected


def test_errors_keep_their_class(parser):
    found = parser.parse_args(["x"])
    with pytest.raises(UnknownNameError, match=r"^--n must be known$"), as_typed(found):
        raise UnknownNameError("count must be known")
    with pytest.raises(ArgumentError, match=r"^as it is$") as caught, as_typed(found):
        raise ArgumentError("as it is")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("typed", "near"), [("--skip-bda", "'--skip-bad'"), ("--nn=3", "'--n'")])
def test_an_unknown_option_ends_with_the_nearest(parser, capsys, typed, near):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["x", typed])
    assert f"error: unrecognized arguments: {typed}; did you mean {near}" in capsys.readouterr().err


def test_control_characters_of_arguments_are_escaped(parser, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["x", "--\x1b[31m"])
    assert "unrecognized arguments: --\\x1b[31m" in capsys.readouterr().err


def test_options_of_a_command_are_those_of_its_own_parser():
    parser = Parser(prog="hyperinit")
    commands = parser.add_subparsers()
    assert isinstance(commands, argparse._SubParsersAction)
    commands.add_parser("do").add_argument("--base-url")
    assert parser.parse_args(["do"]).options == {"help": "--help", "base_url": "--base-url"}


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**400])
def test_a_seed_has_64_bits(seed):
    with pytest.raises(ArgumentError, match=r"^--seed must be from -9223372036854775808 to 18446744073709551615, got "):
        check_seed(seed)
    for allowed in (None, 0, -(2**63), 2**64 - 1):
        check_seed(allowed)


def test_an_amount_must_fit_into_memory(monkeypatch):
    monkeypatch.setattr(arguments, "memory", lambda: 1000)
    check_amount("--n", 10, 100)
    check_amount("--n", None, 100)
    with pytest.raises(ArgumentError, match=r"^--n must be at most 10 to fit into the memory of this machine, got 11$"):
        check_amount("--n", 11, 100)
    with pytest.raises(ArgumentError, match=r"^--n must be an integer of at least 1, got 0$"):
        check_amount("--n", 0, 100)
    with pytest.raises(ArgumentError, match=r"got a number of over 30 digits$"):
        check_amount("--n", 10**400, 100)
    monkeypatch.undo()
    assert arguments.memory() > 2**28
