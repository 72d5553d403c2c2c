"""Likeness to training networks: a reordered copy is a copy, whatever the mean of the zoo is."""

import pytest
import torch

import hyperinit
from benchmarks.sources.novelty import Likeness
from hyperinit_training.images.dataset import load_images
from hyperinit_training.symmetry.align import align


@pytest.fixture(scope="module")
def likeness():
    return Likeness(hyperinit.load("digits"), load_images("digits").normalised("test"), "tanh")


@pytest.fixture(scope="module")
def copies(likeness):
    """The first three training networks in other orders."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(likeness.layout.size, generator=generator)
    return align(likeness.raw[:3], likeness.layout, generator=generator, rounds=1, reference=noise)


def test_a_reordered_training_network_is_a_copy(likeness, copies):
    assert (copies - likeness.raw[:3]).norm(dim=1).min() > 1  # other orders
    found = likeness.of(copies)
    assert max(found["distance"]["values"]) < 1e-3
    assert min(found["overlap"]["values"]) == 1


def test_networks_are_aligned_to_their_nearest_one(likeness, copies):
    """Also where the mean of several families aligns badly."""
    distances = torch.full((3, len(likeness.raw)), 9.0) - torch.eye(3, len(likeness.raw))
    assert likeness._nearest(copies, distances).max() < 1e-3


def test_networks_are_no_nearer_than_they_are(likeness):
    """Noise of a known size on one network: it is at most that far away."""
    noisy = likeness.raw[:4] + 0.1 * torch.randn(4, likeness.layout.size, generator=torch.Generator().manual_seed(2))
    found = likeness.of(noisy)["distance"]["values"]
    sizes = (noisy - likeness.raw[:4]).norm(dim=1).tolist()
    assert all(0.5 * size < distance <= size + 1e-4 for size, distance in zip(sizes, found, strict=True))


def test_a_training_network_is_not_compared_with_itself(likeness):
    found = likeness.of_training()
    assert found["distance"]["n"] == len(likeness.raw)
    assert found["distance"]["mean"] > 0.1
    assert found["overlap"]["mean"] < 1
