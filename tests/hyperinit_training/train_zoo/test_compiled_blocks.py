"""Blocks of the compiled engine, through `train_zoo`: threads, interruption, and scores."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import blocks, compiled_cnn, train
from hyperinit_training.train_zoo.compiled_blocks import accuracy
from hyperinit_training.zoo.zoo import Zoo

FAMILIES = ZooRecipe(images="digits", models=6, families=3, epochs=2, branch_epochs=1, limit=128)
SEEDS = ZooRecipe(images="digits", models=5, epochs=3, snapshots=(1, 3), schedule="linear", limit=128)


def same(zoo, other):
    """Everything but date and time is equal, to the last bit."""
    timeless = [{k: v for k, v in z.provenance.items() if k not in ("date", "seconds")} for z in (zoo, other)]
    return torch.equal(zoo.weights, other.weights) and zoo.snapshots == other.snapshots and timeless[0] == timeless[1]


@pytest.mark.usefixtures("_global_generator_unmoved")
@pytest.mark.parametrize("recipe", [FAMILIES, SEEDS])
def test_the_number_of_workers_changes_nothing(digits, tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(blocks, "SEEDS_PER_BLOCK", 2)
    threads = torch.get_num_threads()
    zoos = [train.train_zoo(recipe, digits, tmp_path / str(n), workers=n) for n in (1, 3)]
    assert same(*zoos)
    assert same(zoos[0], Zoo.load(tmp_path / "1"))
    assert torch.get_num_threads() == threads
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"zoo.json", "weights.safetensors"}


def test_another_seed_gives_another_zoo(digits, tmp_path):
    """Negative control: the equality above is not that of a constant."""
    zoos = [train.train_zoo(replace(FAMILIES, seed=seed), digits, tmp_path / str(seed)) for seed in (0, 1)]
    assert (zoos[0].weights - zoos[1].weights).norm(dim=1).min() > 1


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_accuracy_is_that_of_the_pytorch_network(zoo, digits, activation):
    with torch.random.fork_rng(devices=[]):
        network = cnn(1, activation)
    layout, (images, labels) = Layout.of(network), digits.normalised("test")
    weights = zoo.weights[:3]
    found = accuracy(weights.numpy(), (images, labels), activation)
    logits = [functional_call(network, layout.raw_tensors(row), torch.from_numpy(images)) for row in weights]
    expected = [(one.argmax(1) == torch.from_numpy(labels)).double().mean().item() for one in logits]
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=1e-12)


def test_networks_that_diverge_are_left_out_by_name(digits, tmp_path, monkeypatch):
    real = compiled_cnn.train

    def diverging(weights, images, labels, schedule):
        found, losses = real(weights, images, labels, schedule)
        return (found * np.float32("nan") if schedule.rates[0] == np.float32(1e-2) else found), losses

    monkeypatch.setattr(compiled_cnn, "train", diverging)
    recipe = ZooRecipe(images="digits", models=4, epochs=1, limit=64, vary={"rate": [1e-3, 1e-2]})
    zoo = train.train_zoo(recipe, digits, tmp_path)
    gone = [model for model, own in enumerate(recipe.varied) if own.rate == 1e-2]
    assert zoo.provenance["diverged"] == gone
    assert [s.model for s in zoo.snapshots] == [model for model in range(4) if model not in gone]


@pytest.fixture
def interrupted(digits, tmp_path, monkeypatch):
    """A folder with the first of three blocks of FAMILIES, its run killed in the second."""
    real, calls = compiled_cnn.train, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 7:  # one worker: three ancestors, both members of family 0, one of family 1
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(compiled_cnn, "train", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train_zoo(FAMILIES, digits, tmp_path / "zoo", workers=1)
    assert [path.name for path in sorted((tmp_path / "zoo/blocks").glob("*.safetensors"))] == ["000000.safetensors"]
    return tmp_path / "zoo"


def test_a_killed_run_goes_on_and_ends_the_same(interrupted, digits, tmp_path, monkeypatch):
    real, calls = compiled_cnn.train, []
    monkeypatch.setattr(compiled_cnn, "train", lambda *a: calls.append(a) or real(*a))
    (interrupted / "blocks" / "000002.safetensors123.part").write_bytes(b"a kill while a block was written")
    resumed = train.train_zoo(FAMILIES, digits, interrupted, workers=2)
    assert len(calls) == 6  # two ancestors and four members, not the finished family again
    assert same(resumed, train.train_zoo(FAMILIES, digits, tmp_path / "whole", workers=1))
    assert not (interrupted / "blocks").exists()


def test_blocks_of_another_recipe_are_not_mixed_in(interrupted, digits):
    with pytest.raises(ArgumentError, match=r"blocks holds unfinished work of another recipe; delete it or name ano"):
        train.train_zoo(replace(FAMILIES, rate=1e-3), digits, interrupted)
    assert (interrupted / "blocks" / "000000.safetensors").exists()


def test_an_error_does_not_wait_for_what_has_not_begun(digits, tmp_path, monkeypatch):
    """Ctrl-C in a zoo of hours must not train every ancestor that is queued first."""
    begun = []

    def interrupted(*_):
        begun.append(None)
        time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(compiled_cnn, "train", interrupted)
    recipe = ZooRecipe(images="digits", models=200, families=100, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train.train_zoo(recipe, digits, tmp_path, workers=1)
    assert len(begun) < 10
