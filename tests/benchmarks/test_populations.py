"""Populations: training is repeatable, and ensembles agree with their members."""

import pytest
import torch

import hyperinit
from benchmarks.populations import Task, tensors
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.zoo import ZooRecipe


@pytest.fixture(scope="module")
def images():
    return load_images("digits").subset(100)


@pytest.fixture(scope="module")
def task(images):
    return Task.of(images, ZooRecipe(models=1, images="digits", batch=20))


@pytest.fixture(scope="module")
def weights():
    return hyperinit.load("digits").anchors.weights[:3]


def test_tensors_are_the_normalised_images(images, task):
    x, y = tensors(images, "test")
    assert torch.equal(x, torch.from_numpy(task.data.test[0]))
    assert torch.equal(y, torch.from_numpy(task.data.test[1]))


def test_ensembles_of_one_network_have_its_accuracy(task, weights):
    found = task.ensembles(task.probabilities(weights[:1]), 1, 2, torch.Generator())
    assert found == pytest.approx([task.test(weights[:1])[0]] * 2)


def test_ensembles_of_all_networks_do_not_depend_on_the_order(task, weights):
    found = task.ensembles(task.probabilities(weights), 3, 4, torch.Generator())
    assert found == pytest.approx([found[0]] * 4)


def test_progress_starts_before_training_and_only_the_seed_decides_it(task, weights):
    first, again, other = (task.progress(weights, (1, 2), seed) for seed in (0, 0, 1))
    assert list(first) == ["0", "1", "2"]
    assert first["0"]["values"] == [round(value, 5) for value in task.test(weights)]
    assert first == again
    assert not torch.equal(task.tuned(weights, [1], 0)[1], task.tuned(weights, [1], 1)[1])
    assert first["0"] == other["0"]
