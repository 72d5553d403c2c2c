"""The parameters that a user chooses to write: include, exclude, skip_frozen."""

import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError, PlanError, UnknownNameError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


@pytest.fixture
def weights(layout):
    return torch.randn(layout.size, generator=gen())


def origins(plan):
    return {row.name: row.origin for row in plan.rows}


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ({"include": "0.*"}, {"0.weight", "0.bias"}),
        ({"include": ["0.*", "11.bias"]}, {"0.weight", "0.bias", "11.bias"}),
        ({"include": "*.bias", "exclude": ("9.*", "11.*")}, {"0.bias", "3.bias", "6.bias"}),
        ({"exclude": ["*.weight", "[036].*"]}, {"9.bias", "11.bias"}),
    ],
)
def test_only_what_is_chosen_is_written_and_as_without_the_choice(layout, weights, choice, written):
    module, whole = cnn(), cnn()
    before = {name: value.clone() for name, value in module.named_parameters()}
    plan = make_plan(module, layout, **choice)
    assert {name for name, origin in origins(plan).items() if origin == "exact"} == written
    assert {origin for name, origin in origins(plan).items() if name not in written} == {"excluded"}
    assert plan.decoded_share == 1
    apply_(module, plan, weights)
    apply_(whole, make_plan(whole, layout), weights)
    for name, value in module.named_parameters():
        expected = whole.get_parameter(name) if name in written else before[name]
        assert torch.equal(value, expected), name


def test_frozen_parameters_are_skipped_on_demand_and_stay_frozen(layout, weights):
    module = cnn()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    apply_(module, make_plan(module, layout, skip_frozen=True), weights)
    assert torch.equal(module[0].weight, before)
    assert origins(make_plan(module, layout, skip_frozen=True))["0.bias"] == "frozen"
    apply_(module, make_plan(module, layout), weights)
    assert not torch.equal(module[0].weight, before)
    assert [value.requires_grad for value in module.parameters()] == [False, False] + [True] * 8


def test_the_table_says_what_was_left_out(layout):
    text = str(make_plan(cnn(), layout, exclude="11.*"))
    assert "decoded 100.0%, filled 0.0%, untouched 0.0% of 2,254 weights; 210 others stay as they are" in text
    assert "excluded" in text


@pytest.mark.parametrize("what", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest_parameters(layout, what):
    with pytest.raises(UnknownNameError, match=rf"{what} must match .*, got '11.weigth'; did you mean '11.weig"):
        make_plan(cnn(), layout, **{what: ["0.*", "11.weigth"]})


def test_a_pattern_is_a_string(layout):
    with pytest.raises(ArgumentError, match="exclude must hold only strings, got 3"):
        make_plan(cnn(), layout, exclude=["0.*", 3])


@pytest.mark.parametrize("choice", [{"exclude": "*"}, {"include": "0.*", "exclude": "0.*"}, {"skip_frozen": True}])
def test_nothing_to_write_is_refused(layout, choice):
    module = cnn().requires_grad_(False)
    with pytest.raises(PlanError, match="at least one parameter must be written, got 10 that are all"):
        make_plan(module, layout, **choice)


def test_the_share_that_is_asked_for_is_of_what_was_chosen(layout):
    wide = nn.Sequential(cnn(), nn.Linear(10, 3000))
    with pytest.raises(PlanError, match=r"must decide at least 10\.0%"):
        make_plan(wide, layout).check(0.1)
    make_plan(wide, layout, exclude="1.*").check(0.1)
