"""Pairs of networks and their reconstructions."""

from types import SimpleNamespace

import pytest

import hyperinit
from benchmarks.paper.figure6 import pairs
from benchmarks.populations import Task
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.zoo import ZooRecipe


def test_a_perfect_reconstruction_stays_with_its_original():
    """Both networks of a pair see the same images in the same order; otherwise they would part at once."""
    images = load_images("digits").subset(100)
    hr = SimpleNamespace(encode=lambda w: w, decode=lambda z: z)
    weights = hyperinit.load("digits").anchors.weights[:3]
    snapshots = tuple(SimpleNamespace(epoch=epoch) for epoch in (9, 10, 10))
    zoo = SimpleNamespace(part=lambda part: SimpleNamespace(weights=weights, snapshots=snapshots))
    experiment = SimpleNamespace(
        representation=lambda variant: hr,
        prepared=lambda variant: zoo,
        scale=SimpleNamespace(population=5, tuned=(2, 3)),
        cached=lambda name, key, make: make(),
    )
    found = pairs(experiment, Task.of(images, ZooRecipe(models=1, images="digits", batch=20)), "lwln")
    assert list(found["distance"]) == ["0", "1", "2"]
    assert all(row["mean"] == 0 and row["n"] == 2 for row in found["distance"].values())
    assert found["cosine"]["2"]["mean"] == pytest.approx(1, abs=1e-5)
    assert found["original"] == found["reconstructed"]
