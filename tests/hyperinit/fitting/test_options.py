"""Options are checked and normalised when they are built, and a plan's options cannot be contradicted."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.fitting import Options
from hyperinit.fitting.options import DEFAULTS, Default, check_min_share, check_strength, passed


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"fit": "layerwize"}, UnknownNameError, r"^unknown fit 'layerwize'; did you mean 'layerwise'\?$"),
        ({"fill": "xyz"}, UnknownNameError, "^unknown fill 'xyz'; choose from default, keep, zoo$"),
        ({"fit": None}, UnknownNameError, "^unknown fit None; choose from auto, exact, flat, layerwise$"),
        ({"strength": 1.5}, ArgumentError, r"^strength must be in \[0, 1\], got 1.5$"),
        ({"strength": float("nan")}, ArgumentError, r"^strength must be in \[0, 1\], got nan$"),
        ({"strength": "1"}, ArgumentError, r"^strength must be in \[0, 1\], got '1'$"),
        ({"include": 3}, ArgumentError, "^include must be a pattern or several patterns, got 3$"),
        ({"exclude": re.compile("0.*")}, ArgumentError, "^exclude must be a pattern or several patterns, got re.comp"),
        ({"exclude": torch.ones(2)}, ArgumentError, "^exclude must be a pattern or several patterns, got tensor"),
        ({"include": b"0.*"}, ArgumentError, "^include must be a pattern or several patterns, got b'0"),
        ({"include": {"0.*": 1}}, ArgumentError, "^include must be a pattern or several patterns, got {"),
        ({"method": ["kde"]}, ArgumentError, "^method must be the name of a method or None, got "),
        ({"skip_frozen": "no"}, ArgumentError, "^skip_frozen must be True or False, got 'no'"),
        ({"skip_frozen": None}, ArgumentError, "^skip_frozen must be True or False, got None"),
        ({"strength": True}, ArgumentError, "^strength must be in .0, 1., got True"),
        ({"strength": torch.tensor(0.5)}, ArgumentError, "^strength must be in .0, 1., got tensor"),
        ({"fit": ["auto"]}, UnknownNameError, "^unknown fit "),
        ({"fill": np.array("zoo")}, UnknownNameError, "^unknown fill "),
        ({"exclude": ["a", 3]}, ArgumentError, "^exclude must hold only strings, got 3$"),
    ],
)
def test_a_bad_value_is_refused(choice, error, message):
    with pytest.raises(error, match=message):
        Options(**choice)


@pytest.mark.parametrize("strength", [0, 1, 0.0, 0.5, 1.0])
def test_a_strength_in_the_unit_interval_is_accepted(strength):
    check_strength(strength)
    assert Options(strength=strength).strength == strength


@pytest.mark.parametrize("share", [None, "0.1", True, [0.1], torch.tensor(0.5), float("nan"), 1j, -0.1, 10**400])
def test_a_least_share_is_a_number_in_the_unit_interval(share):
    check_min_share(0)
    with pytest.raises(ArgumentError, match=r"^min_share must be in \[0, 1\], got "):
        check_min_share(share)


@pytest.mark.parametrize("patterns", ["0.*", ["0.*"], ("0.*",), iter(["0.*"])])
def test_patterns_become_a_tuple(patterns):
    options = Options(include=patterns, exclude=[])
    assert (options.include, options.exclude) == (("0.*",), ())
    assert options.include == ("0.*",)  # also when it is read again
    assert hash(options) == hash(Options(include="0.*", exclude=()))


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().fit = "flat"


# Options of a plan, and arguments beside it


def test_equal_arguments_agree_and_an_open_strength_is_taken():
    plan = Options(method="kde", fit="flat", include="0.*")
    assert plan.agreeing({}) == plan
    assert plan.agreeing({"method": "kde", "include": ["0.*"], "fill": "default"}) == plan
    assert plan.agreeing({"strength": 0.25}) == dataclasses.replace(plan, strength=0.25)


def test_all_contradictions_are_named_at_once():
    plan = Options(fit="flat", strength=0.5)
    message = (
        r"^plan= fixes strength=0.5, fill='default', got strength=1.0, fill='keep'; leave it out or make a new plan$"
    )
    with pytest.raises(ArgumentError, match=message):
        plan.agreeing({"fit": "flat", "strength": 1.0, "fill": "keep"})


def test_an_argument_beside_a_plan_is_checked_like_any_other():
    with pytest.raises(UnknownNameError, match="unknown fit 'flt'"):
        Options().agreeing({"fit": "flt"})


# Arguments that a caller passed


def test_a_default_is_told_apart_from_the_same_value():
    assert passed(fit=DEFAULTS.fit, fill="default", strength=None, method=DEFAULTS.method) == {
        "fill": "default",
        "strength": None,
    }


def test_each_option_has_a_default_that_shows_its_value():
    for option in dataclasses.fields(Options):
        default = getattr(DEFAULTS, option.name)
        assert isinstance(default, Default)
        assert (default.value, repr(default)) == (option.default, repr(option.default))
