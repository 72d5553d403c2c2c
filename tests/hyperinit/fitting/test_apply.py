"""Decoded weights are written into all kinds of modules, as planned, or not at all."""

from collections import OrderedDict

import pytest
import torch
from fitting_cases import Residual, put, wide
from module_states import same, state
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting import apply_, make_plan
from hyperinit.fitting.apply import check_module
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def source():
    torch.manual_seed(0)
    return cnn()


@pytest.fixture
def layout(source):
    return Layout.of(source)


@pytest.fixture
def weights(source, layout):
    return layout.flatten(source.state_dict())


class Renamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = cnn()


def test_exact_copies_every_weight_whatever_the_names(layout, weights):
    module = Renamed()
    plan = make_plan(module, layout)
    assert plan.fit == "exact"
    assert plan.decoded_share == 1
    assert not torch.equal(Layout.of(module.layers).flatten(module.layers.state_dict()), weights)
    assert apply_(module, plan, weights) is module
    assert torch.equal(Layout.of(module.layers).flatten(module.layers.state_dict()), weights)


def test_flat_fills_in_order_and_cuts_off(layout, weights):
    large = nn.Sequential(nn.Linear(50, 40), nn.Linear(40, 30))
    plan = make_plan(large, layout, fit="flat", fill="keep")
    before = state(large)["1.weight"].flatten()
    apply_(large, plan, weights)
    got = torch.cat([value.flatten() for value in large.parameters()]).detach()
    assert torch.equal(got[:2464], weights)
    assert torch.equal(got[2464:3240], before[424:])
    assert plan.decoded_share == pytest.approx(2464 / 3270)
    assert plan.rows[0].source == "0.weight to 9.weight"
    assert [row.origin for row in plan.rows] == ["flat", "flat", "flat", "untouched"]


@pytest.mark.parametrize(
    ("target", "to_image"),
    [
        (wide, lambda x: x),
        (lambda: wide(channels=3), lambda x: x.expand(-1, 3, -1, -1)),
        (lambda: wide(kernel=7, padding=1), lambda x: x),
        (lambda: nn.Sequential(*cnn()[:-1], nn.Linear(20, 13)), lambda x: x),
    ],
    ids=["wider", "colour", "larger kernel", "more classes"],
)
def test_a_larger_network_at_full_strength_computes_what_the_source_computes(source, layout, weights, target, to_image):
    images = torch.randn(4, 1, 28, 28, generator=gen())
    module = put(target(), layout, weights)
    torch.testing.assert_close(module(to_image(images))[:, :10], source(images), rtol=0, atol=1e-5)


def test_missing_inputs_that_are_kept_change_the_outputs(source, layout, weights):
    images = torch.randn(4, 1, 28, 28, generator=gen())
    assert (put(wide(), layout, weights, fill="keep")(images) - source(images)).abs().max() > 1e-3


def test_grey_from_colour_sums_the_channels():
    torch.manual_seed(0)
    colour = cnn(channels=3)
    layout, image = Layout.of(colour), torch.randn(2, 1, 28, 28)
    module = put(cnn(), layout, layout.flatten(colour.state_dict()))
    torch.testing.assert_close(module(image), colour(image.expand(-1, 3, -1, -1)), rtol=0, atol=1e-5)


def test_narrow_networks_start_with_finite_outputs_of_the_sources_size(layout, weights, source):
    narrow = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 10))
    images = torch.randn(8, 1, 28, 28, generator=gen())
    plan = make_plan(narrow, layout)
    assert [(row.source, row.overlap) for row in plan.rows] == [
        ("0.weight", 36), ("0.bias", 4), ("11.weight", 200), ("11.bias", 10),
    ]  # fmt: skip
    ratio = apply_(narrow, plan, weights)(images).std() / source(images).std()
    assert 0.3 < ratio < 3


def test_residual_network_is_aligned_and_the_rest_is_filled(layout, weights):
    module = Residual()
    plan = make_plan(module, layout)
    got = {row.name: (row.origin, row.source) for row in plan.rows}
    assert got["stem.weight"] == ("resized", "0.weight")
    assert got["body.weight"] == ("exact", "3.weight")
    assert got["last.weight"] == ("exact", "6.weight")
    assert got["head.weight"] == ("resized", "11.weight")
    assert got["skip.weight"] == got["depthwise.weight"] == got["norm.weight"] == ("filled", None)
    assert got["scale"] == ("untouched", None)
    with torch.no_grad():
        module.norm.weight.fill_(5)
    apply_(module, plan, weights)
    assert torch.equal(module.norm.weight, torch.ones(8))
    assert torch.equal(module.scale, torch.full((4,), 7.0))
    assert torch.equal(module.body.weight, layout.raw_tensors(weights)["3.weight"])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 20)
        self.body, self.head = nn.Linear(36, 20), nn.Linear(20, 10, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_parameters_are_written_once_and_stay_tied(layout, weights):
    module = Tied()
    plan = make_plan(module, layout)
    assert [row.name for row in plan.rows] == ["embedding.weight", "body.weight", "body.bias"]
    apply_(module, plan, weights)
    assert module.head.weight is module.embedding.weight
    assert torch.equal(module.head.weight, layout.raw_tensors(weights)["11.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_identity_dtype_grad_flag_and_buffers_are_kept(layout, weights, dtype):
    module = nn.Sequential(*cnn(), nn.BatchNorm1d(10)).to(dtype)
    module[12].running_mean.fill_(3)
    module[0].weight.requires_grad_(False)
    before = list(module.parameters())
    put(module, layout, weights, strength=0.5)
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    assert module[12].running_mean.eq(3).all()
    assert not module[0].weight.requires_grad
    assert module[3].weight.requires_grad
    assert {value.dtype for value in module.parameters()} == {dtype}


def test_untouched_parameters_are_not_even_rounded(layout, weights):
    module = Residual().double()
    with torch.no_grad():
        module.scale.fill_(1 / 3)  # no float32 number
    assert put(module, layout, weights).scale.eq(1 / 3).all()


def test_decoding_is_float32_and_cast_once(layout, weights):
    module = put(cnn().to(torch.bfloat16), layout, weights)
    assert torch.equal(module[0].weight, layout.raw_tensors(weights)["0.weight"].to(torch.bfloat16))


@pytest.mark.parametrize("fit", ["flat", "layerwise"])
def test_parameters_that_are_not_floating_point_are_left_alone(layout, weights, fit):
    module = cnn()
    module[3].weight = nn.Parameter(torch.ones(6, 200, dtype=torch.int8), requires_grad=False)
    plan = make_plan(module, layout, fit=fit)
    assert {row.name: row.origin for row in plan.rows}["3.weight"] == "untouched"
    assert apply_(module, plan, weights)[3].weight.eq(1).all()


def test_keep_leaves_what_is_not_decoded(layout, weights):
    module = Residual()
    before = state(module)
    plan = make_plan(module, layout, fill="keep")
    apply_(module, plan, weights)
    after = module.state_dict()
    block = layout.raw_tensors(weights)["11.weight"][:, :4]
    torch.testing.assert_close(after["head.weight"], block * 5**0.5)  # 4 of 20 inputs: the rest is scaled up
    assert all(torch.equal(after[row.name], before[row.name]) for row in plan.rows if row.origin == "untouched")
    wider = wide()
    before = state(wider)["3.weight"]
    put(wider, layout, weights, fill="keep", strength=0.5)
    assert torch.equal(wider[3].weight[:, 8:], before[:, 8:])
    assert not torch.equal(wider[3].weight[:6, :8], before[:6, :8])


def test_nothing_is_written_when_a_value_is_not_finite(layout, weights):
    module = cnn().half()
    before = state(module)
    weights[-1] = 1e6  # too large for half precision, and the last to be written
    with pytest.raises(PlanError, match=r"11\.bias in torch\.float16"):
        put(module, layout, weights)
    assert same(module, before)
    weights[-1] = float("nan")
    with pytest.raises(PlanError, match="finite"):
        put(cnn(), layout, weights)


def test_arguments_that_do_not_belong_together_are_refused(layout, weights):
    module = cnn()
    plan, before = make_plan(module, layout), state(module)
    with pytest.raises(ArgumentError, match=r"shape \(2464,\), got \(2463,\)"):
        apply_(module, plan, weights[:-1])
    with pytest.raises(PlanError, match=r"0\.weight \(8, 3, 5, 5\).*new plan"):
        apply_(cnn(channels=3), plan, weights)
    assert same(module, before)


def renamed():
    return nn.Sequential(OrderedDict((f"layer{name}", part) for name, part in cnn().named_children()))


def swapped():
    module = cnn()
    bias, weight = module[11].bias, module[11].weight
    del module[11].weight, module[11].bias
    module[11].bias, module[11].weight = bias, weight
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn(channels=3), r"got 0\.weight \(8, 3, 5, 5\) for \(8, 1, 5, 5\); make a new plan"),
        (lambda: cnn()[:-1], r"got no 11\.weight \(10, 20\); no 11\.bias \(10,\); make"),
        (
            lambda: cnn().append(nn.Linear(10, 2, bias=False)),
            r"got 12\.weight \(2, 10\), which is not in the plan; make",
        ),
        (renamed, r"got layer0\.weight .* is not in the plan; .*; and 15 more; make a new plan for this module$"),
        (swapped, r"got them in another order; make"),
    ],
)
def test_a_module_that_the_plan_was_not_made_for_is_told_what_differs(layout, make, message):
    with pytest.raises(PlanError, match=f"^module must have the parameters that the plan was made for, {message}"):
        check_module(make(), make_plan(cnn(), layout))
    check_module(cnn(), make_plan(cnn(), layout))


def test_a_module_that_became_unwritable_since_it_was_planned_is_refused(layout, weights):
    plan = make_plan(cnn(), layout)
    for call in (lambda: check_module(cnn().to("meta"), plan), lambda: apply_(cnn().to("meta"), plan, weights)):
        with pytest.raises(PlanError, match="parameters must be materialised"):
            call()
