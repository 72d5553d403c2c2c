"""A small data set, a small zoo and a small hyper-representation, made once for all tests of the training package."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.sources.choose import finish
from hyperinit_training.sources.from_recipe import assemble_recipe
from hyperinit_training.train_autoencoder import prepare, train_autoencoder
from hyperinit_training.train_zoo import train_zoo
from hyperinit_training.zoo.zoo import Zoo


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory):
    """400 training and 120 test digits as an .npz file, for what takes `--data`."""
    full = load_images("digits")
    path = tmp_path_factory.mktemp("images") / "digits.npz"
    test = {"x_test": full.x_test[:120], "y_test": full.y_test[:120]}
    np.savez(path, x_train=full.x_train[:400], y_train=full.y_train[:400], **test)
    return path


@pytest.fixture(scope="session")
def digits(digits_file):
    """343 training, 57 validation and 120 test digits."""
    return load_images("digits", digits_file)


@pytest.fixture(scope="session")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="session")
def recipe():
    """Three families of six networks, and an autoencoder small enough to train in seconds."""
    zoo = ZooRecipe(images="digits", models=18, families=3, epochs=20, branch_epochs=4, branch_rate=4e-3, limit=320)
    small = {"width": 32, "heads": 2, "feedforward": 32, "depth": 1, "latent": 16}
    views = {"permutations": 20, "permuted": 0.25, "erase": 0.25}
    autoencoder = AutoencoderRecipe(**small, **views, steps=120, batch=8, warmup=5, rate=1e-2)
    return Recipe(name="tiny-tuned", title="Tiny", licence="MIT", citation="none", zoo=zoo, autoencoder=autoencoder)


@pytest.fixture(scope="session")
def zoo_folder(recipe, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "zoo"
    train_zoo(recipe.zoo, digits, folder, workers=2)
    return folder


@pytest.fixture(scope="session")
def zoo(zoo_folder):
    return Zoo.load(zoo_folder)


@pytest.fixture(scope="session")
def prepared(zoo, recipe):
    """The zoo with aligned families."""
    return prepare(zoo, recipe.autoencoder)


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("autoencoder")


@pytest.fixture(scope="session")
def autoencoder(recipe, prepared, autoencoder_folder):
    return train_autoencoder(recipe.autoencoder, prepared, autoencoder_folder)


@pytest.fixture(scope="session")
def assembled(recipe, prepared, autoencoder):
    """A hyper-representation of the small zoo, not measured yet."""
    return assemble_recipe(recipe, prepared, autoencoder)


@pytest.fixture(scope="session")
def finished(assembled, prepared, digits):
    """The same with a measured card."""
    return finish(assembled, prepared, digits, draws=12)


@pytest.fixture(scope="session")
def poisoned(digits):
    """The digits with test images of noise: nothing that looks at them stays as it was."""
    noise = np.random.default_rng(0).integers(0, 256, digits.x_test.shape, dtype=np.uint8)
    return replace(digits, x_test=noise)


@pytest.fixture
def _global_generator_unmoved():
    """Fails a test that draws from, or seeds, the generator of the whole process."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())
