"""A plan that is handed to `init_` or `ensemble`: exactly what it shows is done, and nothing may contradict it."""

import dataclasses
import inspect

import pytest
import torch
from module_states import same, state
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.errors import ArgumentError, PlanError, UnknownNameError
from hyperinit.fitting import Options, make_plan
from hyperinit.nets import cnn

pytestmark = pytest.mark.usefixtures("embedded", "_global_generator_is_put_back")
OPTIONS = [
    {}, {"strength": 0.5}, {"fill": "zoo"}, {"fill": "keep"}, {"fit": "flat"}, {"method": "average"},
    {"include": ["0.*", "*.bias"]}, {"exclude": "0.bias"}, {"skip_frozen": True},
]  # fmt: skip


def wide():
    """Wider than the source, with a norm, a frozen bias and a layer that the source does not have."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16), nn.Conv2d(16, 6, 5), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 10),
    )  # fmt: skip
    net[2].bias.requires_grad_(False)
    return net


def twins(make=wide):
    """Make two modules with the same values."""
    one, two = make(), make()
    two.load_state_dict(one.state_dict())
    return one, two


def batches():
    return [(torch.randn(8, 3, 20, 20, generator=gen(k)), torch.arange(8)) for k in range(2)]


# The same weights as with the options themselves


@pytest.mark.parametrize("make", [cnn, wide])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_plan_does_what_its_options_do(make, options):
    one, two = twins(make)
    before, global_state = state(one), torch.get_rng_state()
    plan = hyperinit.plan(one, "tiny", **options)
    assert same(one, before)
    assert hyperinit.init_(one, plan=plan, generator=gen()) is one
    assert torch.equal(torch.get_rng_state(), global_state)
    hyperinit.init_(two, "tiny", generator=gen(), **options)
    assert same(one, state(two))
    assert not same(one, before)


def test_without_a_generator_the_global_seed_decides():
    one, two = twins()
    plan = hyperinit.plan(one, "tiny")
    for call in (lambda: hyperinit.init_(one, plan=plan), lambda: hyperinit.init_(two, "tiny")):
        torch.manual_seed(5)
        call()
    assert same(one, state(two))


def test_calibration_and_selection_work_with_a_plan():
    one, two = twins()
    options = {"calibrate": batches(), "select": batches(), "oversample": 3}
    hyperinit.init_(one, plan=hyperinit.plan(one, "tiny"), generator=gen(), **options)
    hyperinit.init_(two, "tiny", generator=gen(), **options)
    assert same(one, state(two))
    assert one[1].num_batches_tracked == 2


def test_what_was_looked_at_is_done_although_the_module_was_frozen_since():
    model = cnn()
    plan = hyperinit.plan(model, "tiny", skip_frozen=True)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    hyperinit.init_(model, plan=plan, generator=gen())
    assert not torch.equal(model[0].weight, before)


def test_a_plan_keeps_its_source_when_the_file_is_replaced(artifact, tiny):
    one, two = twins(cnn)
    plan = hyperinit.plan(one, artifact)
    hyperinit.init_(two, artifact, generator=gen())
    tiny.anchors.weights.add_(1)
    tiny.save(artifact)
    hyperinit.init_(one, plan=plan, method=plan.options.method, generator=gen())
    assert same(one, state(two))


def test_a_plan_is_good_for_another_module_of_the_same_parameters():
    one, two = twins()
    hyperinit.init_(one, plan=hyperinit.plan(two, "tiny"), generator=gen())
    hyperinit.init_(two, "tiny", generator=gen())
    assert same(one, state(two))


# The share that must be decoded is still asked for


def test_a_plan_that_decodes_little_needs_a_lower_share():
    model = nn.Sequential(nn.Linear(1000, 100), nn.Linear(100, 4))
    before, plan = state(model), hyperinit.plan(model, "tiny")
    with pytest.raises(PlanError, match=r"at least 10\.0% "):
        hyperinit.init_(model, plan=plan)
    assert same(model, before)
    assert hyperinit.init_(model, plan=plan, min_share=0) is model


# What may not stand beside a plan


@pytest.mark.parametrize(
    ("planned", "given", "message"),
    [
        ({}, {"method": "kde"}, r"plan= fixes method='kde30', got method='kde'; leave it out or make a new plan"),
        ({"method": "kde"}, {"method": None}, r"method='kde', got method='kde30'"),
        ({}, {"fit": "flat"}, r"fit='auto', got fit='flat'"),
        ({"fit": "flat"}, {"fit": "auto"}, r"fit='flat', got fit='auto'"),
        ({}, {"fill": "keep"}, r"fill='default', got fill='keep'"),
        ({}, {"include": "0.*"}, r"include=None, got include=\('0.\*',\)"),
        ({"include": "0.*"}, {"include": None}, r"include=\('0.\*',\), got include=None"),
        ({"include": "0.*"}, {"exclude": "0.*"}, r"exclude=None, got exclude=\('0.\*',\)"),
        ({"skip_frozen": True}, {"skip_frozen": False}, r"skip_frozen=True, got skip_frozen=False"),
        ({"strength": 0.5}, {"strength": 1.0}, r"strength=0.5, got strength=1.0"),
        ({"fit": "flat"}, {"fit": "exact", "fill": "zoo"}, r"fit='flat', fill='default', got fit='exact', fill='zoo'"),
    ],
)
def test_an_argument_that_contradicts_the_plan_is_refused(planned, given, message):
    model, generator = wide(), gen()
    before, start = state(model), generator.get_state()
    plan = hyperinit.plan(model, "tiny", **planned)
    with pytest.raises(ArgumentError, match=message):
        hyperinit.init_(model, plan=plan, generator=generator, **given)
    with pytest.raises(ArgumentError, match=message):
        hyperinit.ensemble(2, model=wide, plan=plan, generator=generator, **given)
    assert same(model, before)
    assert torch.equal(generator.get_state(), start)


def test_another_source_is_refused_and_the_same_one_is_not(artifact):
    one, two = twins()
    plan = hyperinit.plan(one, "tiny")
    with pytest.raises(ArgumentError, match=r"plan= fixes its source \('tiny'\), got source=.*tiny.safetensors"):
        hyperinit.init_(one, artifact, plan=plan)
    hyperinit.init_(one, "tiny", plan=plan, generator=gen())
    hyperinit.init_(two, hyperinit.load("tiny"), plan=plan, generator=gen())
    assert same(one, state(two))


def test_arguments_that_agree_with_the_plan_are_accepted():
    one, two = twins()
    plan = hyperinit.plan(one, "tiny", include=("0.*", "5.*"), fit="layerwise")
    given = {"include": ["0.*", "5.*"], "fit": "layerwise", "method": None, "fill": "default", "skip_frozen": False}
    hyperinit.init_(one, "tiny", plan=plan, generator=gen(), **given)
    hyperinit.init_(two, plan=plan, generator=gen())
    assert same(one, state(two))


def test_a_plan_may_leave_the_strength_to_init():
    one, two = twins()
    plan = hyperinit.plan(one, "tiny")
    assert plan.options.strength is None
    hyperinit.init_(one, plan=plan, strength=0.5, generator=gen())
    hyperinit.init_(two, plan=hyperinit.plan(two, "tiny", strength=0.5), generator=gen())
    assert same(one, state(two))
    expected = state(hyperinit.init_(two, "tiny", strength=0.5, generator=gen()))
    assert same(one, expected)
    assert not same(hyperinit.init_(two, plan=plan, generator=gen()), expected)


@pytest.mark.parametrize("given", [{"strength": 2}, {"fit": "flt"}, {"include": 3}])
def test_a_bad_value_is_told_apart_from_a_contradiction(given):
    plan = hyperinit.plan(wide(), "tiny")
    with pytest.raises((ArgumentError, UnknownNameError), match=r"must be|unknown fit 'flt'; did you mean 'flat'"):
        hyperinit.init_(wide(), plan=plan, **given)


@pytest.mark.parametrize("make", [lambda: cnn(channels=3), lambda: nn.Sequential(cnn()), lambda: cnn()[:-1]])
def test_a_plan_of_another_module_is_refused_before_anything_moves(make):
    plan, model, generator = hyperinit.plan(cnn(), "tiny"), make(), gen()
    before, start = state(model), generator.get_state()
    with pytest.raises(PlanError, match=r"module must have the parameters that the plan was made for.*make a new plan"):
        hyperinit.init_(model, plan=plan, generator=generator)
    assert same(model, before)
    assert torch.equal(generator.get_state(), start)


def test_what_is_no_plan_of_the_public_function_is_refused():
    model = cnn()
    with pytest.raises(ArgumentError, match=r"plan must be a Plan from hyperinit.plan, got str"):
        hyperinit.init_(model, plan="tiny")
    bare = make_plan(model, hyperinit.load("tiny").layout)
    with pytest.raises(ArgumentError, match=r"plan must be a Plan from hyperinit.plan, got one without a source"):
        hyperinit.init_(model, plan=bare)


# Ensembles


@pytest.mark.parametrize("options", [{}, {"strength": 0.5}, {"fill": "zoo", "exclude": "5.*"}])
def test_an_ensemble_takes_a_plan(options):
    model = wide()
    make = lambda: twin_of(model)  # noqa: E731
    plan = hyperinit.plan(model, "tiny", **options)
    one = hyperinit.ensemble(3, model=make, plan=plan, generator=gen())
    two = hyperinit.ensemble(3, "tiny", model=make, generator=gen(), **options)
    assert same(one, state(two))
    assert len(one.members) == 3


def twin_of(model):
    with torch.random.fork_rng(devices=[]):
        twin = wide()
    twin.load_state_dict(model.state_dict())
    return twin


def test_an_ensemble_with_a_plan_needs_the_factory_of_its_module():
    plan = hyperinit.plan(cnn(), "tiny")
    with pytest.raises(ArgumentError, match="plan= needs model=, which makes the module that the plan is for"):
        hyperinit.ensemble(2, plan=plan)
    with pytest.raises(PlanError, match="make a new plan"):
        hyperinit.ensemble(2, model=wide, plan=plan)


def test_patterns_may_be_read_only_once():
    """Each member is written by the same patterns, also if these come from an iterator."""
    model = wide()
    members = hyperinit.ensemble(2, "tiny", model=lambda: twin_of(model), include=iter(["0.*"])).members
    assert all(torch.equal(member[5].weight, model[5].weight) for member in members)
    assert not any(torch.equal(member[0].weight, model[0].weight) for member in members)


# The options themselves


def test_a_plan_carries_its_source_and_every_option():
    plan = hyperinit.plan(cnn(), "tiny", fill="keep", include="0.*", skip_frozen=True)
    assert plan.source is hyperinit.load("tiny")
    expected = Options(method="kde30", fill="keep", include=("0.*",), skip_frozen=True)  # kde30: tiny's recommendation
    assert plan.options == expected


def test_a_plan_prints_the_method_and_the_strength_that_it_fixes():
    foot = str(hyperinit.plan(cnn(), "tiny", method="noise", strength=0.25)).splitlines()[-3]
    assert foot == "fit: exact; method: noise; strength: 0.25"
    foot = str(hyperinit.plan(cnn(), "tiny")).splitlines()[-3]
    assert foot == "fit: exact; method: kde30; strength: 1 for the source's own task, 0.5 for another task"


def test_plan_refuses_what_init_refuses():
    with pytest.raises(UnknownNameError, match=r"^unknown method 'kde3'; did you mean 'kde30' or "):
        hyperinit.plan(cnn(), "tiny", method="kde3")
    with pytest.raises(ArgumentError, match=r"^strength must be in \[0, 1\], got 1.5$"):
        hyperinit.plan(cnn(), "tiny", strength=1.5)


@pytest.mark.parametrize("function", [hyperinit.init_, hyperinit.ensemble, hyperinit.plan])
def test_the_three_functions_share_every_option_and_its_default(function):
    arguments = inspect.signature(function).parameters
    for option in dataclasses.fields(Options):
        assert repr(arguments[option.name].default) == repr(option.default), option.name
    assert repr(arguments["source"].default) == "'svhn'"


def test_a_plan_with_a_fill_from_the_zoo_takes_an_example_input():
    found = hyperinit.plan(wide(), "tiny", fill="zoo", example_input=torch.zeros(2, 3, 28, 28))
    assert "compared" in found.notes[-1] or "difference" in found.notes[-1]
