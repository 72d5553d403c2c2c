"""What a plan counts, refuses and prints."""

import re

import pytest
import torch
from torch import nn

from hyperinit.errors import PlanError
from hyperinit.fitting import Plan, Row, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


class Residual(nn.Module):
    """Other names, a norm, a skip convolution, and a bare parameter."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8)
        self.skip, self.body = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 5, bias=False)
        self.scale = nn.Parameter(torch.full((4,), 7.0))
        self.last, self.head = nn.Conv2d(6, 4, 2), nn.Linear(4, 10)


ROWS = (
    Row("a", (10, 4), "resized", "0.weight", 30, "normal of 0"),
    Row("b", (40,), "exact", "0.bias", 40, ""),
    Row("scalar", (), "untouched", None, 0, "kept"),
    Row("c", (3, 13), "filled", None, 0, "default draw"),
)


def test_sizes_and_shares_are_counted_in_weights():
    plan = Plan("layerwise", ROWS)
    assert [row.size for row in ROWS] == [40, 40, 1, 39]
    assert plan.decoded_share == pytest.approx(70 / 120)
    assert "\ndecoded 58.3%, filled 40.8%, untouched 0.8% of 120 weights\n" in str(plan)


def test_only_a_normal_rest_has_statistics():
    assert [row.stats for row in ROWS] == ["0", None, None, None]


def test_a_share_that_is_reached_exactly_is_enough():
    plan = Plan("layerwise", ROWS)
    plan.check(0)
    plan.check(plan.decoded_share)
    with pytest.raises(PlanError, match=r"at least 58\.4% .*, got 58\.33%"):
        plan.check(0.584)


def test_the_refusal_shows_the_table_and_what_to_do():
    plan = Plan("layerwise", ROWS)
    message = (
        f"decoded weights must reach at least 99.0% of the module's parameters, got 58.33%:\n\n{plan}\n\n"
        "pass min_share=0.583 to go on all the same, or take a source whose network is more like this module"
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
    with pytest.raises(PlanError, match=r"at least 99\.0%(.|\n)*stem\.weight(.|\n)*pass min_share=0.96"):
        plan.check(0.99)
    plan.check(0.5)
