"""Families of anchors are found by distance, and draws are spread over them."""

import pytest
import torch
from seeds import gen

import hyperinit
from hyperinit.errors import ArgumentError
from hyperinit.samplers import families
from hyperinit.samplers.base import Anchors, SamplerOptions
from hyperinit.samplers.families import clusters, spread
from hyperinit.samplers.methods import fitted, starts


def zoo(families=5, members=6, size=40):
    """Weights of families around distant centres, in a shuffled order, and the family of each."""
    centres = 5 * torch.randn(families, size, generator=gen(1))
    weights = centres.repeat_interleave(members, 0)
    weights = weights + 0.1 * torch.randn(weights.shape, generator=gen(2))
    order = torch.randperm(len(weights), generator=gen(3))
    return weights[order], torch.arange(families).repeat_interleave(members)[order]


def same(one, other):
    """Whether two labellings are equal up to names."""
    return torch.equal(one[:, None] == one, other[:, None] == other)


def test_families_are_found_by_distance():
    weights, family = zoo()
    found = clusters(weights)
    assert same(found, family)
    assert found[0] == 0
    assert int(found.max()) == 4


def test_independent_networks_are_one_family():
    assert clusters(torch.randn(30, 100, generator=gen())).unique().tolist() == [0]


def test_one_anchor_is_a_family():
    assert clusters(torch.ones(1, 3)).tolist() == [0]


@pytest.mark.parametrize("source", ["svhn", "cifar10", "mnist", "digits"])
def test_the_families_of_the_embedded_sources_are_those_of_their_zoos(source):
    """Each zoo has the same number of members in each family, of which some were held out."""
    facts = hyperinit.load(source).card.zoo["recipe"]
    found = hyperinit.load(source).anchors.families
    assert len(found.unique()) == facts["families"]
    assert int(found.bincount().max()) <= facts["models"] // facts["families"]


def test_draws_come_from_all_families_before_one_comes_again():
    _, family = zoo()
    rows = spread(family, 17, gen(4))
    for first in range(0, 15, 5):
        assert len(family[rows[first : first + 5]].unique()) == 5
    assert torch.equal(family[rows[:5]], family[rows[5:10]])
    assert len(rows.unique()) == 17  # no anchor comes twice before all of its family have


def test_anchors_of_a_small_family_come_again():
    rows = spread(torch.tensor([7, 7, 7, 3]), 8, gen())
    assert (rows == 3).sum() == 4
    assert sorted(rows[rows != 3].tolist()[:3]) == [0, 1, 2]


def test_the_order_is_random_and_the_generator_decides():
    _, family = zoo()
    first, again, other = (spread(family, 5, gen(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def anchors():
    weights, family = zoo()
    score = torch.rand(len(weights), generator=gen(5)) * 0.1 + family * 0.15
    return Anchors(weights[:, :4], score, torch.ones(len(weights)), weights)


def test_the_best_of_each_family_are_kept():
    every = anchors()
    kept = every.best(0.5, by_family=True)
    assert kept.families.bincount().tolist() == [3] * 5
    for label in range(5):
        left = every.score[every.families == label].sort().values[:3]
        assert kept.score[kept.families == label].min() > left.max()
    assert len(every.best(0.2).families.unique()) == 1


@pytest.mark.parametrize("method", ["kde30", "local30", "noise", "average", "kde", "local"])
def test_each_draw_begins_at_its_anchor(method):
    every = anchors()
    options = SamplerOptions(bandwidth=0.0, noise=0.0, neighbours=1)
    sampler = fitted(method, every, options, spread=True).sampler
    held = sampler.z if sampler.space == "latent" else sampler.weights
    rows = torch.tensor([3, 0, 3])
    assert starts(method)
    assert torch.equal(sampler.sample(3, gen(), rows=rows), held[rows])


@pytest.mark.parametrize("family", [torch.zeros(29, dtype=torch.int64), torch.zeros(30), torch.zeros(30, 1).long()])
def test_families_must_be_whole_numbers_one_for_each_anchor(family):
    every = anchors()
    with pytest.raises(ArgumentError, match="family must be int64 with one entry for each of 30 latents, got"):
        Anchors(every.z, every.score, every.epoch, every.weights, family)


@pytest.mark.parametrize("block", [1, 2, 2048])
def test_a_chain_of_near_anchors_is_one_family(monkeypatch, block):
    monkeypatch.setattr(families, "BLOCK", block)
    chain = torch.arange(40.0)[:, None].repeat(1, 3)
    chain[20:] += 1000
    assert clusters(chain).tolist() == [0] * 20 + [1] * 20
