"""The list of commands behind docs/results.md."""

from benchmarks.__main__ import COMMANDS, module_of
from benchmarks.paper.pieces import pieces


def test_every_piece_is_a_known_command_and_named_once():
    named = {piece.split()[0] for piece in pieces()}
    assert named <= COMMANDS.keys()
    assert len(set(pieces())) == len(list(pieces()))


def test_the_pieces_are_printed_as_commands(capsys):
    module_of("pieces").main(["--scale", "paper", "--data", "DATA"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "python -m benchmarks prepare --images mnist --part zoo --scale paper --data DATA"
    assert lines[-1] == "python -m benchmarks report"
