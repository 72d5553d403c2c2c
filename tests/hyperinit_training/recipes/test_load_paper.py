"""The recipes of the paper's zoos: constants of Table 7, and a scaled-down zoo of each."""

import numpy as np
import pytest
import torch

from hyperinit.nets import build
from hyperinit_training.cli import commands
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy
from hyperinit_training.recipes.load import load_recipe
from hyperinit_training.zoo.zoo import Zoo

NAMES = ("mnist", "svhn", "cifar10", "stl10")
TABLE7 = {  # init, activation, learning rate, weight decay; then beta of Table 8
    "mnist": ("uniform", "tanh", 3e-4, 0.0, 0.977),
    "svhn": ("uniform", "tanh", 3e-3, 0.0, 0.92),
    "cifar10": ("kaiming_uniform", "gelu", 1e-4, 1e-2, 0.95),
    "stl10": ("kaiming_uniform", "tanh", 1e-4, 1e-3, 0.95),
}
SIZES = {"mnist": (28, 28), "svhn": (32, 32, 3), "cifar10": (32, 32, 3), "stl10": (96, 96, 3)}
NORMALISED = {"mnist": ([0.1307], [0.3081]), "svhn": ([0.5], [0.5])}


@pytest.mark.parametrize("name", NAMES)
def test_the_constants_are_the_papers(name):
    recipe = load_recipe(f"{name}-paper")
    zoo = recipe.zoo
    assert (zoo.init, zoo.activation, zoo.rate, zoo.decay, recipe.autoencoder.beta) == TABLE7[name]
    assert (zoo.images, zoo.models, zoo.families, zoo.batch, zoo.epochs) == (name, 1000, 0, 10, 50)
    assert (zoo.snapshots, zoo.schedule, zoo.limit) == ((21, 22, 23, 24, 25), "constant", 0)
    assert (recipe.autoencoder.lwln, recipe.autoencoder.target) == (True, "view")


@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_down_zoo_trains_and_records_its_recipe(tmp_path, name):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, top, shape, dtype=np.uint8) for top, shape in ((256, (200, *SIZES[name])), (10, 200)))
    data = tmp_path / "images.npz"
    np.savez(data, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    scale = ["--models", "8", "--epochs", "2", "--images", "64"]
    assert commands.zoo(["--recipe", f"{name}-paper", "--data", str(data), *scale, "--out", str(tmp_path / "zoo")]) == 0

    zoo = Zoo.load(tmp_path / "zoo")
    said = zoo.provenance
    init, activation, rate, decay, _ = TABLE7[name]
    expected = {"models": 8, "epochs": 2, "snapshots": [2], "limit": 64, "batch": 10, "families": 0, "images": name}
    expected |= {"init": init, "activation": activation, "rate": rate, "decay": decay}
    assert said["recipe"].items() >= expected.items()
    assert said["images"]["train"] == 64
    preprocessing = NORMALISED.get(name, ([0.5] * 3, [0.5] * 3))
    assert (said["preprocessing"]["mean"], said["preprocessing"]["std"]) == preprocessing

    channels = len(preprocessing[0])
    assert zoo.weights.shape == (8, 2264 + 200 * channels)
    assert {s.epoch for s in zoo.snapshots} == {2.0}
    assert torch.pdist(zoo.weights).min() > 1  # eight seeds, none like another
    network = build(zoo.architecture)
    assert any(type(step).__name__.lower() == activation for step in network)
    network.load_state_dict(zoo.layout.raw_tensors(zoo.weights[0]))
    test = accuracy(network, *map(torch.from_numpy, load_images(name, data).normalised("test")))
    assert zoo.snapshots[0].test == pytest.approx(test, abs=0.021)  # one of 50 images may lie on the border
