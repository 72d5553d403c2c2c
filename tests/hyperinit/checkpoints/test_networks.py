"""Given networks are taken in their order, and networks like them can be built."""

import pytest
import torch
from torch import nn

from hyperinit.checkpoints.gather import gather
from hyperinit.errors import ArgumentError, LayoutError


@pytest.fixture
def pair():
    return [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2)]


@pytest.fixture
def networks(pair):
    return gather(pair, ["source[0]", "source[1]"])


def test_samples_are_the_networks_in_turn(networks):
    assert torch.equal(networks.sample(3), networks.weights[[0, 1, 0]])
    assert len(networks) == 2
    assert str(networks.card).startswith("source       2 given networks")


def test_all_lie_side_by_side_unless_a_number_is_asked_for(networks):
    assert (networks.beside(None), networks.beside(1)) == (2, 1)
    with pytest.raises(ArgumentError, match=r"members must be at most 2, the number of networks given, got 3$"):
        networks.beside(3)


def test_built_networks_are_the_given_ones(networks, pair):
    made = networks.build_model(networks.weights[1])
    for name, value in pair[1].state_dict().items():
        assert torch.equal(made.state_dict()[name], value)
    assert all(value.requires_grad for value in made.parameters())
    assert made[0].weight is not networks.build_model(networks.weights[1])[0].weight


def test_nothing_is_built_of_weights_alone_or_of_networks_that_differ_elsewhere(pair):
    alone = gather([pair[0].state_dict()], ["source"])
    with pytest.raises(LayoutError, match="source='source' holds weights without a network; pass model="):
        alone.build_model(alone.weights[0])
    for net in pair:
        net.append(nn.PReLU())
    with torch.no_grad():
        pair[1][2].weight.fill_(0.7)
    apart = gather(pair, ["source[0]", "source[1]"])
    assert apart.apart == ("2.weight",)
    with pytest.raises(LayoutError, match=r"2 networks that differ in .* alone, got others in 2.weight; pass model="):
        apart.build_model(apart.weights[0])


def test_statistics_of_layers_are_those_of_all_networks(networks, pair):
    values = torch.cat([torch.cat([net[0].weight.flatten(), net[0].bias]) for net in pair])
    mean, std = networks.layer_stats()["0"]
    assert mean == pytest.approx(values.mean().item(), abs=1e-6)
    assert std == pytest.approx(values.std().item(), abs=1e-6)


def test_two_sources_are_the_same_if_their_weights_are(networks, pair):
    assert networks.same(gather(pair, ["a", "b"]))
    assert not networks.same(gather(pair[::-1], ["a", "b"]))
    assert not networks.same(None)
