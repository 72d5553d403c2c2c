"""Layers and tensors that are read from a module, permutation groups, and reordered tensors."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from hyperinit.errors import LayoutError
from hyperinit.layout import Layout, TensorSpec
from hyperinit.layout.layers import group_sizes, layer_from_json, layer_to_json, layers_of, reorder


def network():
    """Make a network of batch norms with running statistics and of norms with few or no tensors."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4, affine=False),
        nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(16, 5), nn.LayerNorm(5, bias=False),
    )  # fmt: skip


def test_norms_are_layers_with_their_running_statistics():
    found = {layer.name: (layer.kind, layer.neurons, layer.token_length) for layer in layers_of(network())}
    assert found == {
        "0": ("conv2d", 4, 27),
        "1": ("norm", 4, 4),
        "4": ("norm", 4, 2),
        "6": ("linear", 5, 17),
        "7": ("norm", 5, 1),
    }
    assert [t.name for layer in layers_of(network()) for t in layer.tensors if t.buffer] == [
        "1.running_mean", "1.running_var", "4.running_mean", "4.running_var",
    ]  # fmt: skip


def test_norms_without_tensors_are_no_layers():
    assert layers_of(nn.Sequential(nn.LayerNorm(2, elementwise_affine=False), nn.InstanceNorm1d(2))) == []


def test_a_group_has_as_many_neurons_as_all_its_axes_have_blocks():
    tensors = [TensorSpec("a", (6,), ("x",)), TensorSpec("b", (4, 18), ("y", "x")), TensorSpec("c", (4,), ("x",))]
    assert group_sizes(tensors) == {"x": 2, "y": 4}


def test_reorder_moves_both_axes_of_a_group():
    spec = TensorSpec("a", (2, 4), ("x", "x"))
    moved = reorder(torch.arange(8).reshape(2, 4), spec, {"x": torch.tensor([1, 0])})
    assert moved.tolist() == [[6, 7, 4, 5], [2, 3, 0, 1]]


# Layers that lie


def tensor(name, *shape, **fields):
    return {"name": name, "shape": list(shape), "groups": [None] * len(shape), **fields}


def layer(kind, *tensors, name="0"):
    return {"name": name, "kind": kind, "tensors": list(tensors)}


WEIGHT, BIAS = tensor("0.weight", 4, 3), tensor("0.bias", 4)
STATISTICS = tensor("0.running_mean", 4, buffer=True), tensor("0.running_var", 4, buffer=True)


@pytest.mark.parametrize(
    "found",
    [
        layer("linear", WEIGHT, BIAS),
        layer("linear", tensor("weight", 4, 3), name=""),
        layer("conv1d", tensor("0.weight", 4, 3, 2)),
        layer("conv2d", tensor("0.weight", 4, 3, 2, 2), BIAS),
        layer("conv3d", tensor("0.weight", 4, 3, 2, 2, 2), BIAS),
        layer("norm", tensor("0.weight", 4), BIAS, *STATISTICS),
        layer("norm", *STATISTICS),
        layer("norm", tensor("0.weight", 4, 8, 8), tensor("0.bias", 4, 8, 8)),
    ],
)
def test_layers_of_modules_are_read(found):
    assert json.loads(json.dumps(layer_to_json(layer_from_json(found)))) == found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (layer("conv2d", WEIGHT, BIAS), r"weight of '0' must have 4 axes, as in a conv2d, got the shape \(4, 3\)"),
        (layer("conv1d", WEIGHT), "weight of '0' must have 3 axes"),
        (layer("conv3d", WEIGHT), "weight of '0' must have 5 axes"),
        (layer("linear", tensor("0.weight", 4)), "weight of '0' must have 2 axes"),
        (layer("linear", tensor("0.weight", 4, 3, 1, 1)), "weight of '0' must have 2 axes"),
        (layer("linear", WEIGHT, tensor("0.bias", 4, 1)), "bias of '0' must have 1 axis"),
        (layer("linear", BIAS), "must hold weight and at most a bias in this order, got '0.bias'"),
        (layer("linear", BIAS, WEIGHT), "in this order, got '0.bias', '0.weight'"),
        (layer("linear", tensor("0.bias", 4, 3), tensor("0.weight", 4)), "in this order, got '0.bias', '0.weight'"),
        (layer("linear", tensor("1.weight", 4, 3)), "in this order, got '1.weight'"),
        (layer("linear", WEIGHT, tensor("0.scale", 4)), "got '0.weight', '0.scale'"),
        (layer("linear", WEIGHT, *STATISTICS), "must hold weight and at most a bias"),
        (layer("norm", *STATISTICS[::-1]), "must hold weight, bias, running_mean, running_var in this order"),
        (layer("norm", WEIGHT, BIAS), r"must hold tensors that share their shape, got {.*\(4,\)"),
        (layer("norm", tensor("0.running_var", 4, 1, buffer=True)), "running_var of '0' must have 1 axis"),
        (
            layer("norm", tensor("0.running_var", 4)),
            "a buffer must be true for running statistics alone, .* 'running_var'",
        ),
        (layer("linear", {**WEIGHT, "buffer": True}), "a buffer must be true for running statistics alone"),
        (layer("linear", tensor("\n.weight", 4, 3), name="\n"), "a tensor's name must be one line of at most 512"),
        (layer("linear", tensor("a" * 600, 4, 3)), "a tensor's name must be one line of at most 512"),
        (layer("linear", {**WEIGHT, "groups": ["\n", None]}), "must have one group or null for each axis"),
    ],
)
def test_layers_that_no_module_has_are_refused(found, message):
    with pytest.raises(LayoutError, match=message):
        layer_from_json(found)


def test_a_weight_that_a_parametrisation_left_behind_the_bias_comes_first():
    net = nn.Linear(3, 2)
    before = Layout.of(net)
    parametrizations.weight_norm(net)
    parametrize.remove_parametrizations(net, "weight")
    assert [name for name, _ in net.named_parameters()] == ["bias", "weight"]
    assert Layout.of(net) == before


def test_a_layer_with_a_weight_norm_is_no_layer_of_a_zoo():
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = nn.utils.weight_norm(nn.Linear(3, 2))
    with pytest.raises(LayoutError, match="must hold weight and at most a bias in this order, got 'bias', 'weight_g'"):
        Layout.of(net)
