"""Layers of a narrower module, or one with smaller kernels, are corrected on batches."""

import copy

import pytest
import torch
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.batches.refit import Refit, first_inputs
from hyperinit.errors import ArgumentError, BatchError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout


def chain(width, kernel=3, norm=False, kind=nn.Conv2d, **choice):
    norms = [nn.BatchNorm2d(width)] if norm else []
    return nn.Sequential(
        kind(1, width, kernel, **choice), *norms, nn.ReLU(inplace=True), kind(width, width, kernel, **choice),
        nn.AdaptiveAvgPool2d(4) if kind is nn.Conv2d else nn.Identity(), nn.Tanh(), nn.Flatten(),
    )  # fmt: skip


def mlp(width, act=nn.Tanh):
    return nn.Sequential(nn.Linear(6, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 3))


def drawn(network, seed=1):
    """A layout, and weights that lie near default draws."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in network.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    layout = Layout.of(network)
    return layout, layout.flatten(network.state_dict())


def corrected(module, network, inputs, strength=1.0, **choice):
    """Copies of a module before and after the correction."""
    layout, weights = drawn(network)
    plan = make_plan(module, layout, **choice)
    apply_(module, plan, weights, strength=strength, generator=gen(2))
    after = copy.deepcopy(module)
    Refit(plan, network, strength).correct_(after, weights, inputs)
    return module.eval(), after.eval()


def errors(pair, network, inputs, channels=None):
    with torch.no_grad():
        wanted = network.eval()(inputs)
        return [(module(inputs) - wanted).square().mean().item() for module in pair]


INPUTS = torch.randn(512, 6, generator=gen(3))
IMAGES = torch.randn(64, 1, 14, 14, generator=gen(3)).cumsum(-1).div(3)


def test_a_narrower_network_comes_nearer_to_the_source():
    network = mlp(24)
    pair = corrected(mlp(12), network, INPUTS)
    fresh = torch.randn(512, 6, generator=gen(4))
    before, after = errors(pair, network, fresh)
    assert after < before / 4


def test_neurons_that_compute_the_same_are_merged():
    network = mlp(8)
    drawn(network)
    with torch.no_grad():
        for first, second in ((0, 2), (2, 4)):
            network[first].weight[4:], network[first].bias[4:] = network[first].weight[:4], network[first].bias[:4]
            network[second].weight[:, 4:] *= 0.1  # the first four are the best
    layout = Layout.of(network)
    weights = layout.flatten(network.state_dict())
    module = mlp(4)
    plan = make_plan(module, layout)
    apply_(module, plan, weights)
    inputs = torch.randn(4096, 6, generator=gen(3))
    assert errors([module], network, inputs)[0] > 1e-3
    for _ in range(12):  # the penalty on the change shrinks each time
        Refit(plan, network).correct_(module, weights, inputs)
    assert errors([module], network, inputs)[0] < 1e-6


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        (nn.Conv2d, {}), (nn.Conv2d, {"padding": 1}), (nn.Conv2d, {"padding": "same"}), (nn.Conv2d, {"stride": 2}),
        (nn.Conv2d, {"padding": 1, "padding_mode": "reflect"}), (nn.Conv2d, {"dilation": 2, "padding": 2}),
        (nn.Conv2d, {"bias": False}), (nn.Conv2d, {"norm": True}),
    ],
)  # fmt: skip
def test_convolutions_of_any_kind_are_corrected(kind, choice):
    network = chain(8, kind=kind, **choice)
    layout, weights = drawn(network)
    module = chain(4, kind=kind, **choice)
    plan = make_plan(module, layout)
    apply_(module, plan, weights)
    wanted = network.eval()(IMAGES).unflatten(1, (8, -1))
    before = module.eval()(IMAGES)
    Refit(plan, network).correct_(module, weights, IMAGES)
    after = module(IMAGES)
    best = [_nearest(wanted, row) for row in (before, after)]
    assert best[1] < best[0]


def _nearest(wanted, got):
    """Smallest mean error over the source's channels for each channel of the module."""
    got = got.unflatten(1, (4, -1))
    return (wanted[:, :, None] - got[:, None]).square().mean((0, 3)).min(0).values.mean()


@pytest.mark.parametrize(("kind", "size"), [(nn.Conv1d, (30,)), (nn.Conv3d, (8, 8, 8))])
def test_convolutions_in_one_and_three_dimensions(kind, size):
    def make(width):
        return nn.Sequential(kind(1, width, 3), nn.Tanh(), kind(width, 2, 3))

    network = make(8)
    inputs = torch.randn(32, 1, *size, generator=gen(3))
    before, after = errors(corrected(make(4), network, inputs), network, inputs)
    assert after < before / 2


@pytest.mark.parametrize("padding", [True, False])
def test_smaller_kernels_are_corrected(padding):
    """Without padding the feature maps are larger than the source's, and their centres lie on each other."""

    def make(kernel):
        pad = kernel // 2 if padding else 0
        return nn.Sequential(
            nn.Conv2d(1, 6, kernel, padding=pad), nn.Tanh(), nn.Conv2d(6, 4, kernel, padding=pad), nn.AvgPool2d(2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    network = make(5)
    images = torch.randn(128, 1, 16, 16, generator=gen(3))
    before, after = errors(corrected(make(3), network, images), network, images)
    assert after < before / 2


def test_init_corrects_a_narrower_network_of_the_zoo():
    source = hyperinit.load("digits")
    network = source.build_model(source.sample(1, generator=gen())[0])
    images = torch.randn(256, 1, 7, 7, generator=gen(3)).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def narrow():
        return nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(4, 3, 5), nn.MaxPool2d(2), nn.Tanh(),
            nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 10), nn.Tanh(), nn.Linear(10, 10),
        )  # fmt: skip

    pair = [
        hyperinit.init_(narrow(), source, generator=gen(), calibrate=batches)
        for batches in (None, iter(images.split(64)))
    ]
    before, after = errors(pair, network, images)
    assert after < before / 2
    members = hyperinit.ensemble(2, source, model=narrow, generator=gen(), calibrate=list(images.split(64))).members
    assert torch.isfinite(members[1](images)).all()


def test_strength_mixes_the_corrected_weights_with_the_default_draw():
    full, half, none = (corrected(mlp(12), mlp(24), INPUTS, strength=s)[1] for s in (1.0, 0.5, 0.0))
    for one, mixed, other in zip(full.parameters(), half.parameters(), none.parameters(), strict=True):
        torch.testing.assert_close(mixed, (one + other) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [24, 30, 48])
def test_networks_that_hold_the_source_whole_do_not_change(width):
    layout, _ = drawn(mlp(24))
    plan = make_plan(mlp(width), layout, members=1)
    assert not Refit(plan, mlp(24)).needed


def test_a_fewer_number_of_classes_changes_nothing():
    module = nn.Sequential(*list(mlp(24))[:-1], nn.Linear(24, 2))
    before, after = corrected(module, mlp(24), INPUTS)
    assert all(map(torch.equal, before.parameters(), after.parameters()))


@pytest.mark.parametrize(
    "change",
    [
        nn.DataParallel,
        lambda module: nn.Sequential(*list(module)[:1], nn.BatchNorm1d(12), *list(module)[1:]),
        lambda module: nn.utils.parametrizations.weight_norm(module[0]) and module,
    ],
)
def test_modules_of_other_kinds_stay_as_they_are_and_the_log_says_so(change, caplog):
    module = change(mlp(12))
    before, after = corrected(module, mlp(24), INPUTS)
    assert "left the layers of a narrower module as they are, because the module has wrappers" in caplog.text
    assert all(map(torch.equal, before.parameters(), after.parameters()))


def test_a_source_that_does_not_take_the_inputs_corrects_nothing_and_the_log_says_so(caplog):
    before, after = corrected(nn.Sequential(nn.Linear(5, 12), *list(mlp(12))[1:]), mlp(24), INPUTS[:, :5])
    assert "because the source's network does not take the inputs" in caplog.text
    assert all(map(torch.equal, before.parameters(), after.parameters()))


def test_parameters_that_are_left_out_stay_as_they_are():
    before, after = corrected(mlp(12), mlp(24), INPUTS, exclude="2.*")
    same = {name: torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items()}
    assert same["2.weight"]
    assert same["2.bias"]
    assert not same["4.weight"]


def test_batches_that_the_module_does_not_take_are_refused_and_nothing_is_written():
    module = mlp(12)
    module.register_forward_pre_hook(lambda part, args: args[0][:, :3])
    layout, weights = drawn(mlp(24))
    plan = make_plan(module, layout)
    apply_(module, plan, weights)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(BatchError, match="batch 1 must be inputs that the module accepts"):
        Refit(plan, mlp(24)).correct_(module, weights, INPUTS)
    assert all(map(torch.equal, before.values(), module.state_dict().values()))


def test_the_global_generator_and_the_caller_s_tensors_do_not_change():
    state, inputs = torch.get_rng_state(), INPUTS.clone()
    layout, weights = drawn(mlp(24))
    kept = weights.clone()
    module = mlp(12)
    plan = make_plan(module, layout)
    apply_(module, plan, weights)
    torch.set_rng_state(state)
    Refit(plan, mlp(24)).correct_(module, weights, INPUTS)
    assert not torch.equal(torch.get_rng_state(), torch.Generator().get_state())
    assert torch.equal(inputs, INPUTS)
    assert torch.equal(kept, weights)


def test_the_first_inputs_leave_all_batches_to_the_calibration():
    batches = [torch.zeros(3, 2), torch.ones(3, 2), torch.ones(2, 5), torch.ones(1, 2)]
    inputs, loader = first_inputs(iter(batches))
    assert len(inputs) == 6
    assert [one is other for one, other in zip(loader, batches, strict=True)] == [True] * 4
    with pytest.raises(ArgumentError, match="at least one batch"):
        first_inputs([])
