"""Layers and tensors that are read from a module, permutation groups, and reordered tensors."""

import torch
from torch import nn

from hyperinit.layout import TensorSpec
from hyperinit.layout.layers import group_sizes, layers_of, reorder


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
