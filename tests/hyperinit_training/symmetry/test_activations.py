"""Activations of groups: centred, scaled, and the same neurons for every network."""

import torch
from seeds import gen
from torch import nn

from hyperinit_training.symmetry.activations import SAMPLES, activations


def test_rows_are_what_neurons_compute_centred_and_scaled():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(10, 3, generator=gen())
    rows = activations(net, [x], {"0.weight": ("a", None)}, {"a": 4})["a"]
    expected = net[0](x).detach().T
    expected = nn.functional.normalize(expected - expected.mean(1, keepdim=True), dim=1)
    torch.testing.assert_close(rows, expected)


def test_all_layers_of_a_group_count_and_many_places_are_drawn():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    groups = {"0.weight": ("a", None, None, None), "1.weight": ("a",)}
    rows = activations(net, [torch.randn(32, 1, 8, 8, generator=gen())], groups, {"a": 4})["a"]
    assert rows.shape == (4, 2 * SAMPLES), "32 images of 36 places have more than are taken"
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))


def test_a_block_of_outputs_is_one_neuron():
    net = nn.Sequential(nn.Linear(3, 6))
    rows = activations(net, [torch.randn(5, 3, generator=gen())], {"0.weight": ("a", None)}, {"a": 2})["a"]
    assert rows.shape == (2, 15)


def test_channels_of_a_sequence_are_its_last_axis():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    groups = {"0.weight": ("a", None), "1.weight": ("a",)}
    rows = activations(net, [torch.randn(5, 7, 3, generator=gen())], groups, {"a": 4})["a"]
    assert rows.shape == (4, 2 * 35)


def test_neurons_that_never_change_have_zeros():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight[1] = 0
    rows = activations(net, [torch.randn(9, 2, generator=gen())], {"0.weight": ("a", None)}, {"a": 3})["a"]
    assert rows.abs().sum(1).ne(0).tolist() == [True, False, True]


def test_a_network_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    activations(net, [torch.randn(9, 2, generator=gen())], {"0.weight": ("a", None)}, {"a": 3})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert not any(part._forward_hooks for part in net.modules())
