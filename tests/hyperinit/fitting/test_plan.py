"""What a plan counts, refuses and prints."""

import re

import pytest
from fitting_cases import Residual

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting import Options, Plan, Row, make_plan
from hyperinit.fitting.plan import DRAWN, KEPT, Rest
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


ROWS = (
    Row("a", (10, 4), "resized", "0.weight", 30, Rest("zoo", "0")),
    Row("b", (40,), "exact", "0.bias", 40, None),
    Row("scalar", (), "untouched", None, 0, KEPT),
    Row("c", (3, 13), "filled", None, 0, DRAWN),
)
FIXED = Options(method="kde", strength=0.0)


def test_sizes_and_shares_are_counted_in_weights():
    plan = Plan("layerwise", ROWS)
    assert [row.size for row in ROWS] == [40, 40, 1, 39]
    assert plan.decoded_share == pytest.approx(70 / 120)
    assert "\ndecoded 58.3%, filled 40.8%, untouched 0.8% of 120 weights\n" in str(plan)


def test_a_share_that_is_reached_exactly_is_enough():
    plan = Plan("layerwise", ROWS)
    plan.check(0)
    plan.check(plan.decoded_share)
    with pytest.raises(PlanError, match=r"at least 58\.4% .*, got 58\.33%"):
        plan.check(0.584)


def test_the_refusal_shows_the_table_and_what_to_do():
    plan = Plan("layerwise", ROWS)
    message = (
        f"the source must decide at least 99.0% of the module's parameters, got 58.33%:\n\n{plan}\n\n"
        "pass min_share=0.583 to proceed anyway, or take a source whose network is more like this module"
    )
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        plan.check(0.99)


def test_the_table_has_one_line_for_each_parameter():
    lines = str(Plan("layerwise", ROWS)).splitlines()
    assert lines[0].split() == ["parameter", "shape", "origin", "source", "tensor", "overlap", "rest", "gets"]
    assert lines[2:6] == [
        "a          10x4    resized    0.weight       75%      normal of 0",
        "b          40      exact      0.bias         100%     -",
        "scalar     scalar  untouched  -              -        kept",
        "c          3x13    filled     -              -        default draw",
    ]
    assert lines[-1] == "fit: layerwise; strength: 1 for the source's own task, 0.5 for another task"


def test_plan_prints_what_happens(layout):
    text = str(make_plan(Residual(), layout))
    assert " ".join(text.split()[:8]) == "parameter shape origin source tensor overlap rest gets"
    assert "stem.weight" in text
    assert "8x3x5x5" in text
    assert "fit: layerwise" in text
    assert "0.5 for another task" in text
    plan = make_plan(Residual(), layout, fill="keep")
    assert f"decoded {plan.decoded_share:.1%}, filled 0.0%, untouched {1 - plan.decoded_share:.1%}" in str(plan)
    with pytest.raises(PlanError, match=r"at least 99\.0%(.|\n)*stem\.weight(.|\n)*pass min_share=0\.\d+ to proceed"):
        plan.check(0.99)
    plan.check(0.5)


def test_the_share_of_zeros_is_neither_filled_nor_decoded():
    rows = (Row("a", (10, 4), "resized", "0.weight", 10, DRAWN, zeros=10), Row("b", (2,), "excluded", None, 0, KEPT))
    lines = str(Plan("layerwise", rows)).splitlines()
    assert lines[2] == "a          10x4   resized   0.weight       25%      25% zero, default draw"
    assert lines[-2] == (
        "decoded 25.0%, zero beside them 25.0%, filled 50.0%, untouched 0.0% of 40 weights; 2 others stay as they are"
    )


def test_a_weight_that_is_all_decoded_or_zero_has_no_rest_to_print():
    line = str(Plan("layerwise", (Row("a", (4,), "resized", "0.weight", 3, DRAWN, zeros=1),))).splitlines()[2]
    assert line.endswith("75%      25% zero")


def test_the_method_and_a_fixed_strength_are_printed():
    foot = [str(Plan("flat", ROWS, options=options)).splitlines()[-1] for options in (Options(), FIXED)]
    assert foot[0] == "fit: flat; strength: 1 for the source's own task, 0.5 for another task"
    assert foot[1] == "fit: flat; method: kde; strength: 0.0"


def test_control_characters_of_names_are_printed_as_escapes():
    row = Row("a\x1b[31m\n", (1,), "resized", "b\x07", 1, DRAWN)
    assert str(Plan("layerwise", (row,))).splitlines()[2].split()[:4] == ["a\\x1b[31m\\n", "1", "resized", "b\\x07"]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_least_share_outside_is_refused(share):
    with pytest.raises(ArgumentError, match=rf"^min_share must be in \[0, 1\], got {share}$"):
        Plan("layerwise", ROWS).check(share)
