"""Switches and numbers of the environment are parsed one way, and texts of servers never raise."""

import pytest

from hyperinit.errors import ArgumentError
from hyperinit.files import values


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", " on "])
def test_a_yes_switches_on(monkeypatch, text):
    monkeypatch.setenv("HYPERINIT_X", text)
    assert values.flag("HYPERINIT_X") is True


@pytest.mark.parametrize("text", ["0", "false", "FALSE", "no", "Off"])
def test_a_no_switches_off(monkeypatch, text):
    monkeypatch.setenv("HYPERINIT_X", text)
    assert values.flag("HYPERINIT_X", True) is False


@pytest.mark.parametrize("default", [True, False])
def test_an_empty_variable_is_one_that_is_not_set(monkeypatch, default):
    assert values.flag("HYPERINIT_X", default) is default
    monkeypatch.setenv("HYPERINIT_X", " ")
    assert values.flag("HYPERINIT_X", default) is default
    assert values.whole("HYPERINIT_X", 3) == 3
    assert values.seconds("HYPERINIT_X", 3, 9) == 3


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("HYPERINIT_X", "offline")
    with pytest.raises(ArgumentError, match=r"^HYPERINIT_X must be one of 1, true, .*off, got 'offline'; change or"):
        values.flag("HYPERINIT_X")


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "1_000", "٣", "²", "0x1", " 1", "1\n", "9" * 19, "9" * 5000, None]
)
def test_only_a_few_decimal_digits_are_a_number(text):
    assert values.integer(text) is None


def test_numbers_of_the_environment_are_checked(monkeypatch):
    monkeypatch.setenv("HYPERINIT_X", "12")
    assert values.whole("HYPERINIT_X", 0) == 12
    assert values.seconds("HYPERINIT_X", 0.0, 12) == 12.0
    with pytest.raises(ArgumentError, match=r"HYPERINIT_X must be a whole number of at least 13, got '12'"):
        values.whole("HYPERINIT_X", 0, 13)


@pytest.mark.parametrize("text", ["soon", "nan", "-1", "0", "inf", "1e9", "9" * 5000])
def test_a_time_must_be_above_0_and_limited(monkeypatch, text):
    monkeypatch.setenv("HYPERINIT_X", text)
    with pytest.raises(
        ArgumentError, match=r"HYPERINIT_X must be a number of seconds above 0 and at most 1,000, got '"
    ):
        values.seconds("HYPERINIT_X", 1, 1000)
    with (
        pytest.raises(ArgumentError, match=r"HYPERINIT_X must be a whole number")
        if text != "0"
        else pytest.raises(ArgumentError, match="at least 1")
    ):
        values.whole("HYPERINIT_X", 1, 1)
