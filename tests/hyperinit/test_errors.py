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
