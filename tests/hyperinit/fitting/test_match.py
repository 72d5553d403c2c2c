"""Layers of a module, maps of their inputs, and the places of several networks in them."""

import pytest
import torch
from fitting_cases import place
from torch import nn

from hyperinit.fitting.match import (
    inputs_of,
    match_norms,
    match_runs,
    match_tensors,
    module_layers,
    side_by_side,
    source_layers,
)
from hyperinit.fitting.pairing import Layer, pair
from hyperinit.layout import Layout
from hyperinit.nets import cnn, resnet


def conv(out, inputs, kernel):
    return Layer("conv2d", (out, inputs, kernel, kernel), {})


def linear(out, inputs):
    return Layer("linear", (out, inputs), {})


def test_grouped_and_shared_layers():
    shared = nn.Linear(2, 2)
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), shared, nn.Sequential(shared))
    assert [(layer.kind, layer.names["weight"]) for layer in module_layers(module)] == [
        ("grouped conv2d", "0.weight"),
        ("linear", "1.weight"),
    ]


def test_layers_that_share_a_weight_are_listed_once():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    [layer] = module_layers(nn.Sequential(first, second))
    assert layer.names == {"weight": "0.weight", "bias": "0.bias"}


def test_flattened_channels_stay_in_blocks():
    source = [conv(2, 1, 3), linear(5, 2 * 4)]  # 2 channels of 2x2 pixels
    same_pixels = inputs_of(source, [conv(3, 1, 3), linear(5, 3 * 4)], 1, 1)
    assert same_pixels.source.tolist() == list(range(8))
    assert same_pixels.target.tolist() == list(range(8))
    larger = place(inputs_of(source, [conv(3, 1, 3), linear(5, 3 * 16)], 1, 1), 8, 48)
    pixel = larger[:, 1].reshape(3, 4, 4)  # channel 0, upper right
    assert torch.equal(pixel[0], torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]) / 4)
    assert not pixel[1:].any()
    pooled = place(inputs_of(source, [conv(3, 1, 3), linear(5, 3)], 1, 1), 8, 3)
    assert torch.equal(pooled[:2], torch.kron(torch.eye(2), torch.ones(1, 4)))


def test_fewer_channels_with_more_pixels_do_not_shift():
    source = [conv(4, 1, 3), linear(5, 4 * 9)]
    inputs = inputs_of(source, [conv(9, 1, 3), linear(5, 9 * 4)], 1, 1)  # the same 36 inputs, other blocks
    assert not torch.equal(inputs.target, inputs.source)
    assert inputs.target.max() < 4 * 4


def test_other_inputs_are_leading():
    plain = inputs_of([linear(4, 3), linear(2, 4)], [linear(8, 3), linear(2, 8)], 1, 1)
    assert place(plain, 4, 8)[:4].equal(torch.eye(4))
    odd = inputs_of([conv(2, 1, 3), linear(5, 8)], [conv(3, 1, 3), linear(5, 10)], 1, 1)  # 10 is no multiple of 3
    assert len(odd.target) == 8


def test_tensors_and_runs_cover_the_vector():
    net, layout = cnn(), Layout.of(cnn())
    layers = module_layers(net)
    by_layer = match_tensors(layout, layers, [(k, k) for k in range(5)])
    runs = match_runs(dict(net.named_parameters()), layout)
    vector = torch.arange(float(layout.size))
    for name, value in net.named_parameters():
        for source, block in (by_layer[name], runs[name]):
            assert source == name
            assert torch.equal(block.decode(vector, tuple(value.shape))[0], layout.raw_tensors(vector)[name])


def places(source, module):
    """The number of networks side by side, and their places by parameter."""
    layout = Layout.of(source)
    pairs = pair(source_layers(layout), module_layers(module))
    count = side_by_side(layout, module, pairs)
    blocks = match_tensors(layout, module_layers(module), pairs, count) | match_norms(layout, module, count)
    return count, {
        name: (block.members.outputs, block.members.inputs) for name, (_, block) in blocks.items() if block.members
    }


def net(a, b, c, *, pixels=9, channels=1):
    return nn.Sequential(
        nn.Conv2d(channels, a, 5), nn.Tanh(), nn.Conv2d(a, b, 5), nn.Flatten(), nn.Linear(b * pixels, c), nn.Tanh(),
        nn.Linear(c, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (net(8, 6, 20), 1),
        (net(24, 18, 60), 3),
        (net(31, 18, 60), 3),
        (net(24, 17, 60), 2),
        (net(24, 18, 20), 1),
        (net(4, 18, 60), 1),
        (net(24, 18, 60, channels=3), 3),
        (net(24, 18, 60, pixels=25), 3),
        (net(8 * 40, 6 * 40, 20 * 40), 16),
    ],
)
def test_the_least_ratio_of_widths_says_how_many_networks_fit(module, count):
    assert places(net(8, 6, 20), module)[0] == count


def test_members_have_outputs_and_inputs_of_their_own_and_share_images_and_logits():
    _, found = places(net(8, 6, 20), net(16, 13, 41, pixels=25, channels=3))
    weights = {name: place for name, place in found.items() if name.endswith("weight")}
    assert weights == {"0.weight": (8, 0), "2.weight": (6, 8), "4.weight": (20, 6 * 25), "6.weight": (0, 20)}
    assert {name: place[0] for name, place in found.items()} == {
        f"{layer}.{key}": outputs for layer, outputs in ((0, 8), (2, 6), (4, 20), (6, 0)) for key in ("weight", "bias")
    }


def test_members_of_a_residual_network_have_the_same_channels_in_all_layers_of_a_stage():
    count, found = places(resnet(8, 4), resnet(14, 9))
    assert count == 2
    assert found["conv1.weight"] == (4, 0)
    assert found["layer1.0.conv2.weight"] == (4, 4)
    assert found["layer2.0.downsample.0.weight"] == (8, 4)
    assert found["layer2.0.downsample.1.running_var"] == (8, 0)
    assert found["fc.weight"] == (0, 16)
    assert not any(name.startswith("layer1.1") for name in found)
