"""What a call asks for: how many networks are sampled, from which families, and what a plan proves."""

import pytest
import torch
from fitting_cases import wide
from seeds import gen

import hyperinit
from hyperinit.errors import ArgumentError
from hyperinit.fitting.options import Default
from hyperinit.nets import cnn
from hyperinit.request import request

IMAGES = torch.randn(4, 1, 28, 28, generator=gen())


def families_of(source, weights):
    """The family of the nearest anchor of each network."""
    return source.anchors.families[torch.cdist(weights, source.anchors.weights).argmin(1)]


@pytest.mark.parametrize(("spread", "count"), [(True, 6), (False, 3)])
def test_several_networks_come_from_different_families_unless_told_otherwise(spread, count):
    """Without it, six draws of this seed come from fewer families."""
    source = hyperinit.load("digits")
    asked = request(None, source, method="kde", spread=spread)
    drawn = asked.sample(6, None, gen(2), ensemble=True)
    assert drawn.shape == (6, 2464)
    found = len(families_of(source, drawn).unique())
    assert found == count if spread else found < 6


def test_one_network_is_drawn_from_all_anchors():
    source = hyperinit.load("digits")
    drawn = request(None, source, method="kde30").sample(3, None, gen(2))
    assert torch.equal(drawn, source.sample(3, method="kde30", generator=gen(2)))


def test_a_plan_of_several_networks_samples_that_many_for_each_module():
    source = hyperinit.load("digits")
    asked = request(None, source, method="kde30")
    drawn = asked.sample(3, asked.plan_for(wide()), gen(2))
    assert drawn.shape == (3, 2, 2464)
    assert torch.equal(drawn.flatten(0, 1), source.sample(6, method="kde30", generator=gen(2), spread=True))


def test_methods_that_begin_at_no_anchor_ignore_families():
    source = hyperinit.load("digits")
    drawn, again = (source.sample(4, method="uniform", generator=gen(2), spread=spread) for spread in (True, False))
    assert torch.equal(drawn, again)


def test_a_plan_with_an_example_input_says_how_exact_it_is():
    plan = hyperinit.plan(wide(), "digits", example_input=IMAGES)
    assert plan.notes[-1].startswith("computes the mean of 2 networks (difference ")
    assert plan.notes[-1] in str(plan)
    assert not any("difference" in note for note in hyperinit.plan(wide(), "digits").notes)


def test_a_plan_fixes_the_number_of_networks():
    plan = hyperinit.plan(wide(), "digits", members=1)
    assert plan.members == 1
    with pytest.raises(ArgumentError, match="plan= fixes members=1, got members=2"):
        hyperinit.init_(wide(), plan=plan, members=2)


def test_the_default_source_is_taken_if_none_was_passed():
    assert request(None, Default("digits")).source is hyperinit.load("digits")
    assert request(None, Default("digits")).whole
    assert not request(None, "digits", members=1).whole
    assert hyperinit.plan(cnn(), "digits").members == 1


def test_given_networks_all_lie_side_by_side_or_come_one_by_one():
    nets = [cnn() for _ in range(2)]
    asked = request(None, nets)
    assert asked.plan_for(wide()).members == 2
    assert asked.plan_for(wide()).options.members is None
    one = asked.one_by_one()
    assert one.plan_for(wide()).members == 1
    assert one.sample(3, one.plan_for(wide()), None).shape == (3, 2464)
    assert request(None, nets, members=2).one_by_one().options.members == 2
    assert request(None, "digits").one_by_one().options.members is None


def test_init_records_what_the_plan_says_and_is_silent_by_default(caplog, capfd):
    plan = hyperinit.plan(wide(), "digits")
    with caplog.at_level("INFO", logger="hyperinit"):
        hyperinit.init_(wide(), plan=plan)
    [record] = caplog.records
    assert record.getMessage() == f"init_ of Sequential from digits: {plan.summary}"
    assert "2 networks side by side" in plan.summary
    assert "\n" not in plan.summary
    caplog.clear()
    hyperinit.init_(wide(), plan=plan)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
