"""Layers are paired by name, one by one, or by similarity."""

import itertools

import pytest
import torch
from torch import nn

from hyperinit.fitting.match import module_layers, source_layers
from hyperinit.fitting.pairing import Layer, align, pair, similarity
from hyperinit.layout import Layout
from hyperinit.nets import cnn, resnet


def conv(out, inputs, kernel, name=None):
    return Layer("conv2d", (out, inputs, kernel, kernel), {} if name is None else {"weight": f"{name}.weight"})


def linear(out, inputs, name=None):
    return Layer("linear", (out, inputs), {} if name is None else {"weight": f"{name}.weight"})


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


def test_layers_with_the_names_of_the_source_are_paired_by_name():
    """By widths alone, the second stage of the source would fit the first one of a network twice as wide."""
    source, target = (module_layers(net) for net in (resnet(14, 4), resnet(20, 8)))
    names = [target[b].path for _, b in pair(source, target)]
    assert names == [layer.path for layer in source]


def test_a_common_prefix_of_the_names_is_ignored():
    source = module_layers(resnet(8, 4))
    target = module_layers(nn.ModuleDict({"stem": nn.Conv2d(3, 3, 3), "body": nn.ModuleDict({"net": resnet(14, 9)})}))
    assert [target[b].path for _, b in pair(source, target)] == [f"body.net.{layer.path}" for layer in source]


@pytest.mark.parametrize(
    "target",
    [
        [conv(8, 1, 5, "a"), conv(8, 8, 5, "x"), linear(10, 8, "c")],  # not all names
        [linear(10, 8, "c"), conv(8, 1, 5, "a"), conv(8, 8, 5, "b")],  # another order
        [conv(8, 1, 5, "a"), linear(8, 8, "b"), linear(10, 8, "c")],  # another kind
        [conv(8, 1, 5, "xa"), conv(8, 8, 5, "xb"), linear(10, 8, "xc")],  # no prefix of modules
    ],
)
def test_names_count_only_if_all_agree_in_order_and_kind(target):
    source = [conv(8, 1, 5, "a"), conv(8, 8, 5, "b"), linear(10, 8, "c")]
    nameless = [Layer(layer.kind, layer.shape, {}) for layer in target]
    assert pair(source, target) == pair(source, nameless)


def test_networks_of_one_structure_are_paired_one_by_one():
    source = [conv(4, 1, 3), conv(8, 4, 3), conv(16, 8, 3), linear(10, 16)]
    wide = [conv(8, 3, 3), conv(16, 8, 3), conv(32, 16, 3), linear(100, 32)]
    assert pair(source, wide) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_deeper_network_without_names_is_paired_by_relative_widths_if_that_decides_more():
    source = [conv(4, 1, 3), conv(8, 4, 3), conv(16, 8, 3), linear(10, 16)]
    deeper = [conv(8, 1, 3), conv(16, 8, 3), conv(32, 16, 3), conv(32, 32, 3), linear(10, 32)]
    assert pair(source, deeper) == [(0, 0), (1, 1), (2, 2), (3, 4)]


def test_a_source_without_layers_has_no_pairs():
    assert pair([], module_layers(cnn())) == []
    assert pair(source_layers(Layout.of(cnn())), []) == []


def test_a_module_with_some_of_the_sources_layers_gets_those_of_the_same_names():
    """The widths alone would pair its middle layer with the first of the source's equal ones."""
    source = [conv(8, 3, 3, "stem"), conv(8, 8, 3, "a.0"), conv(8, 8, 3, "a.1"), linear(10, 8, "fc")]
    target = [conv(4, 3, 3, "stem"), conv(4, 4, 3, "a.1"), linear(10, 4, "fc")]
    assert pair(source, target) == [(0, 0), (2, 1), (3, 2)]
    other_end = [*target[:2], linear(10, 4, "head")]
    assert pair(source, other_end)[1] == (1, 1), "names of numbered steps agree by chance"
