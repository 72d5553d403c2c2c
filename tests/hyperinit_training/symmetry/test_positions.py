"""Positions of neurons: permuting by them equals the permutation of the layout."""

import pytest
import torch
from looped import looped
from reordered import permutation_index
from seeds import gen
from torch import nn

from hyperinit.layout import Layout
from hyperinit.nets import ResNet, cnn
from hyperinit_training.symmetry import permutation_groups
from hyperinit_training.symmetry.positions import neuron_positions, permute


def residual():
    net = ResNet(width=4, blocks=1)
    return Layout.of(net).with_groups(permutation_groups(net, torch.ones(2, 3, 8, 8)).groups)


@pytest.mark.parametrize("make", [lambda: Layout.of(cnn()), residual, looped], ids=["chain", "residual", "two axes"])
def test_permute_agrees_with_the_layout(make):
    """Every network has its own order of every group."""
    layout = make()
    weights, positions = torch.randn(3, layout.size, generator=gen()), neuron_positions(layout)
    before = weights.clone()
    orders = {name: torch.rand(3, len(where[0]), generator=gen(2)).argsort(1) for name, where in positions.items()}
    expected = [row[permutation_index(layout, {n: o[i] for n, o in orders.items()})] for i, row in enumerate(weights)]
    permuted = weights
    for name, where in positions.items():
        permuted = permute(permuted, where, orders[name])
    assert torch.equal(permuted, torch.stack(expected))
    assert not torch.equal(permuted, weights)
    assert torch.equal(weights, before), "the input is not modified"


def test_a_row_lists_the_weights_of_one_neuron():
    """Behind a flatten, each channel owns a block of 2 columns; the columns are listed one after the other."""
    layout = Layout.of(nn.Sequential(nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2)))
    [where] = neuron_positions(layout)["0"]
    assert where.tolist() == [
        [0, 1, 6, 9, 15, 10, 16],
        [2, 3, 7, 11, 17, 12, 18],
        [4, 5, 8, 13, 19, 14, 20],
    ]


def test_a_group_on_two_axes_of_a_tensor_has_two_tables():
    [positions] = neuron_positions(looped()).values()
    assert [tuple(where.shape) for where in positions] == [(4, 1 + 1 + 4 + 1 + 1), (4, 4)]
    middle = looped().raw_tensors(torch.arange(looped().size))["1.weight"]
    assert torch.equal(positions[0][:, 2:6], middle)
    assert torch.equal(positions[1], middle.T)


def test_a_network_without_hidden_neurons_has_no_positions():
    assert neuron_positions(Layout.of(nn.Linear(3, 2))) == {}
