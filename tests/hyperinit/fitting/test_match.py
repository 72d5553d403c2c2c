"""Layers are paired in order, and their inputs are mapped to each other."""

import itertools

import pytest
import torch
from fitting_cases import place
from torch import nn

from hyperinit.fitting.match import (
    Layer,
    align,
    inputs_of,
    match_runs,
    match_tensors,
    module_layers,
    similarity,
    source_layers,
)
from hyperinit.layout import Layout
from hyperinit.nets import cnn


def conv(out, inputs, kernel):
    return Layer("conv2d", (out, inputs, kernel, kernel), {})


def linear(out, inputs):
    return Layer("linear", (out, inputs), {})


def best_by_trying_all(source, target):
    """Slow oracle: the best sum of similarities over every monotone pairing."""
    totals = [0.0]
    for size in range(1, min(len(source), len(target)) + 1):
        for left in itertools.combinations(range(len(source)), size):
            for right in itertools.combinations(range(len(target)), size):
                totals.append(sum(similarity(source, target, a, b) for a, b in zip(left, right, strict=True)))
    return max(totals)


@pytest.mark.parametrize("seed", range(6))
def test_alignment_is_monotone_and_the_best_of_all(seed):
    g = torch.Generator().manual_seed(seed)

    def chain(length):
        sizes = torch.randint(1, 9, (length, 3), generator=g).tolist()
        return [conv(*s) if s[2] % 2 else linear(*s[:2]) for s in sizes]

    source, target = chain(4), chain(6)
    pairs = align(source, target)
    assert pairs == sorted(pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(source[a].kind == target[b].kind for a, b in pairs)
    total = sum(similarity(source, target, a, b) for a, b in pairs)
    assert total == pytest.approx(best_by_trying_all(source, target))


def test_inserted_layers_are_left_out_and_ends_meet():
    source = source_layers(Layout.of(cnn()))
    skip = [source[0], conv(8, 8, 1), source[1], conv(6, 6, 1), source[2], linear(20, 20), source[3], source[4]]
    assert align(source, skip) == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 7)]
    wide_head = [conv(64, 3, 7), conv(64, 64, 3), linear(1000, 512)]
    assert (0, 0) in align(source, wide_head)
    assert (4, 2) in align(source, wide_head)


def test_fewer_layers_than_the_source():
    source = source_layers(Layout.of(cnn()))
    assert align(source, [source[1], source[4]]) == [(1, 0), (4, 1)]
    assert align(source, []) == []


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
            assert torch.equal(block.decode(vector, tuple(value.shape))[0], layout.unflatten(vector)[name])
