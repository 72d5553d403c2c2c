"""Errors are ours and also the built-in ones that a caller would expect."""

import copy

import pytest

from hyperinit import errors

BUILT_IN = {
    "UnknownNameError": KeyError,
    "ArgumentError": ValueError,
    "LayoutError": ValueError,
    "ArtifactError": ValueError,
    "PlanError": ValueError,
    "ZooError": ValueError,
    "DataError": ValueError,
    "DownloadError": OSError,
    "WriteError": OSError,
    "BatchError": RuntimeError,
    "MissingExtraError": ImportError,
}


def test_the_table_below_lists_every_error():
    assert {name for name in vars(errors) if name.endswith("Error")} == {"HyperinitError", *BUILT_IN}


@pytest.mark.parametrize(("name", "base"), BUILT_IN.items())
def test_each_error_is_caught_as_ours_and_as_the_built_in(name, base):
    for caught in (errors.HyperinitError, base):
        with pytest.raises(caught, match=r"^what went wrong$"):
            raise getattr(errors, name)("what went wrong")


@pytest.mark.parametrize("name", BUILT_IN)
def test_messages_print_as_written(name):
    """A plain KeyError would print the repr of its message, with quotes and escapes."""
    message = "unknown source 'mnits'; did you mean 'mnist'?"
    assert str(getattr(errors, name)(message)) == message
    assert str(KeyError(message)) != message


@pytest.mark.parametrize("name", BUILT_IN)
def test_errors_travel_between_processes(name):
    error = copy.copy(getattr(errors, name)("text"))  # by the same protocol as between processes
    assert type(error) is getattr(errors, name)
    assert str(error) == "text"


def test_messages_show_a_value_in_80_characters():
    assert errors.shown("a") == "'a'"
    assert len(errors.shown("a" * 10**6)) == 80
    assert errors.shown("\x1b\ud800") == r"'\x1b\ud800'"
    assert errors.shown(10**10_000) == "a number of over 80 digits"


@pytest.mark.parametrize("name", BUILT_IN)
def test_control_characters_of_foreign_names_do_not_reach_the_terminal(name):
    error = getattr(errors, name)("tensor \x1b[31mred\u202e\udcff must\n\tbe plain")
    assert str(error) == "tensor \\x1b[31mred\\u202e\\udcff must\n\tbe plain"
    assert errors.one_line("a\nb\tc\x1b") == "a\\nb\\tc\\x1b"


def test_numbers_of_things_are_counted():
    found = [errors.counted(count, noun) for count, noun in ((0, "file"), (1, "file"), (1200, "family"), (2, "key"))]
    assert found == ["0 files", "1 file", "1,200 families", "2 keys"]


def test_long_lists_are_cut():
    assert errors.listed(["a", "b\n"], 2) == "a, b\\n"
    assert errors.listed(map(str, range(30))).endswith("18, 19 and 10 more")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Exat", "'Exat'; did you mean 'exact'?"),
        ("fla", "'fla'; did you mean 'Flat'?"),
        ("digit", "'digit'; did you mean 'the-digits-tuned'?"),
        ("q", "'q'; choose from auto, exact, Flat, the-digits-tuned"),
        ("FLAT", "'FLAT'; did you mean 'Flat'?"),
        (3, "3; choose from auto, exact, Flat, the-digits-tuned"),
    ],
)
def test_unknown_names_come_with_similar_ones(name, hint):
    assert str(errors.unknown("fit", name, ["auto", "exact", "Flat", "the-digits-tuned"])) == f"unknown fit {hint}"


def test_a_long_unknown_name_is_cut():
    assert len(str(errors.unknown("fit", "x" * 10**6, ["auto"]))) < 150


@pytest.mark.parametrize("mark", "\u061c\u200e\u200f\u202e\u2066")
def test_marks_that_turn_the_direction_of_text_are_escaped(mark):
    assert errors.printable(f"a{mark}b") == f"a{ascii(mark)[1:-1]}b"
