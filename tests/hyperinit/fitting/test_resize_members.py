"""Several networks side by side in one module compute the mean of their outputs."""

import pytest
import torch
from fitting_cases import put
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn, resnet
from hyperinit.representation import HyperRepresentation

ATOL = 1e-5


def several(make, count):
    """Networks with drawn weights and statistics, and their vectors (count, D)."""
    generator = gen(count)
    networks = []
    for _ in range(count):
        network = make().eval()
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                draw = torch.rand(value.shape, generator=generator)
                value.copy_(draw + 0.5 if "running_var" in name or value.ndim == 1 else draw - 0.5)
                if value.ndim > 1:
                    value.div_(value[0].numel() ** 0.5 / 2)
        networks.append(network)
    layout = Layout.of(networks[0])
    return networks, torch.stack([layout.flatten(network.state_dict()) for network in networks]), layout


def mean(networks, images):
    with torch.no_grad():
        return torch.stack([network(images) for network in networks]).mean(0)


def wide(times, more=0):
    a, b, c, d = (times * size + more for size in (8, 6, 4, 20))
    return nn.Sequential(
        nn.Conv2d(1, a, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(a, b, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(b, c, 2), nn.Tanh(), nn.Flatten(), nn.Linear(c * 9, d), nn.Tanh(), nn.Linear(d, 10),
    )  # fmt: skip


@pytest.mark.parametrize(("times", "more"), [(1, 0), (2, 0), (3, 1), (4, 3), (16, 0), (16, 5)])
def test_a_wider_cnn_computes_the_mean(times, more):
    networks, weights, layout = several(cnn, times)
    module = wide(times, more)
    plan = make_plan(module, layout)
    assert plan.members == times
    apply_(module, plan, weights if times > 1 else weights[0])
    images = torch.randn(8, 1, 28, 28, generator=gen())
    assert (module(images) - mean(networks, images)).abs().max() < ATOL
    assert more or plan.decided_share == 1


def normed(a=4, b=6):
    return nn.Sequential(
        nn.Conv2d(1, a, 3), nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, 3, stride=2), nn.BatchNorm2d(b), nn.ReLU(),
        nn.Flatten(), nn.Linear(b * 9, 3),
    )  # fmt: skip


@pytest.mark.parametrize(("times", "sizes"), [(2, (8, 12)), (3, (13, 19)), (2, (8, 30))])
def test_batch_norms_and_their_statistics_lie_side_by_side(times, sizes):
    networks, weights, layout = several(normed, times)
    module = put(normed(*sizes), layout, weights).eval()
    images = torch.randn(8, 1, 9, 9, generator=gen())
    assert (module(images) - mean(networks, images)).abs().max() < ATOL


@pytest.mark.parametrize(("times", "width"), [(2, 8), (4, 17), (3, 13)])
def test_a_wider_residual_network_computes_the_mean(times, width):
    networks, weights, layout = several(lambda: resnet(14, 4), times)
    module = put(resnet(14, width), layout, weights).eval()
    images = torch.randn(4, 3, 16, 16, generator=gen())
    assert (module(images) - mean(networks, images)).abs().max() < ATOL


def test_images_of_another_number_of_channels_and_classes():
    networks, weights, layout = several(cnn, 2)
    module = wide(2)
    module[0], module[-1] = nn.Conv2d(3, 16, 5), nn.Linear(40, 7)
    put(module, layout, weights)
    grey = torch.randn(8, 1, 28, 28, generator=gen())
    found = module(grey.expand(-1, 3, -1, -1))
    assert (found - mean(networks, grey)[:, :7]).abs().max() < ATOL


def test_one_network_alone_is_written_if_one_is_asked_for():
    networks, weights, layout = several(cnn, 2)
    module = put(wide(2), layout, weights[0])
    images = torch.randn(8, 1, 28, 28, generator=gen())
    assert (module(images) - networks[0](images)).abs().max() < ATOL
    assert make_plan(wide(2), layout, members=1).decided_share < 0.6


def test_strength_mixes_the_zeros_between_networks_as_well():
    _, weights, layout = several(cnn, 2)
    full, none, half = (
        put(wide(2), layout, weights, strength=strength, generator=gen(5)) for strength in (1.0, 0.0, 0.5)
    )
    for name, value in half.state_dict().items():
        expected = (full.state_dict()[name] + none.state_dict()[name]) / 2
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    assert not full[3].weight[:6, 8:].any()
    assert none[3].weight[:6, 8:].all()


def test_the_table_says_how_many_lie_side_by_side():
    layout = Layout.of(cnn())
    assert "; 4 networks side by side; " in str(make_plan(wide(4), layout))
    assert "side by side" not in str(make_plan(wide(4), layout, members=1))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"members": 5}, "at most 4 networks of the source fit side by side, got members=5"),
        ({"members": 2, "fit": "flat"}, "at most 1 networks of the source fit side by side with fit flat"),
    ],
)
def test_more_networks_than_fit_are_refused(choice, message):
    with pytest.raises(PlanError, match=message):
        make_plan(wide(4), Layout.of(cnn()), **choice)


@pytest.mark.parametrize("members", [0, -1, 1.5, True, "2"])
def test_a_number_of_networks_must_be_a_positive_integer(members):
    with pytest.raises(ArgumentError, match="members must be None or an integer of at least 1, got"):
        make_plan(wide(4), Layout.of(cnn()), members=members)


def test_init_samples_as_many_networks_as_fit():
    source = hyperinit.load("digits")
    module = hyperinit.init_(wide(3), source, method="kde30", generator=gen(3))
    drawn = source.sample(3, method="kde30", generator=gen(3), spread=True)
    images = torch.randn(8, 1, 28, 28, generator=gen())
    assert (module(images) - mean([source.build_model(row) for row in drawn], images)).abs().max() < ATOL


def test_every_member_of_an_ensemble_gets_networks_of_its_own():
    source: HyperRepresentation = hyperinit.load("digits")
    ensemble = hyperinit.ensemble(2, source, model=lambda: wide(2), method="kde30", generator=gen(3))
    drawn = source.sample(4, method="kde30", generator=gen(3), spread=True)
    images = torch.randn(8, 1, 28, 28, generator=gen())
    for index, member in enumerate(ensemble.members):
        networks = [source.build_model(row) for row in drawn[2 * index : 2 * index + 2]]
        assert (member(images) - mean(networks, images)).abs().max() < ATOL


def test_nothing_is_drawn_for_a_module_that_the_source_decides_whole():
    """So a warm call is fast, and the generator of the networks decides alone."""
    _, weights, layout = several(cnn, 2)
    generator = gen(7)
    before = generator.get_state()
    put(wide(2), layout, weights, generator=generator)
    assert torch.equal(generator.get_state(), before)
    put(wide(2), layout, weights, generator=generator, strength=0.5)
    assert not torch.equal(generator.get_state(), before)
