import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from hyperinit.errors import ArgumentError
from hyperinit.nets import build
from hyperinit_training.measure.finetune import accuracy
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import blocks, compiled_blocks, compiled_cnn, train
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


def test_members_of_a_family_lie_nearer_to_each_other(zoo):
    distance = torch.cdist(zoo.weights, zoo.weights)
    kin = zoo.families[:, None] == zoo.families
    assert zoo.families.unique().tolist() == [0, 1, 2]
    assert [s.model for s in zoo.snapshots] == list(range(18))
    assert 0 < distance[kin & ~torch.eye(18, dtype=torch.bool)].max() < 0.5 * distance[~kin].min()


def test_seeds_are_families_of_their_own_with_one_snapshot_for_each_epoch_asked(digits, tmp_path):
    zoo = train.train_zoo(SEEDS, digits, tmp_path)
    assert [(s.model, s.family, s.epoch) for s in zoo.snapshots] == [(m, m, e) for m in range(5) for e in (1.0, 3.0)]
    assert all(zoo.snapshots[2 * m].split == zoo.snapshots[2 * m + 1].split for m in range(5))
    assert (zoo.weights[::2] - zoo.weights[1::2]).norm(dim=1).min() > 0.1


def test_scores_are_what_pytorch_measures(zoo, digits):
    """Validation and test images are not mixed up, and the description builds the network."""
    network = build(zoo.architecture)
    for row in (0, 9, 17):
        network.load_state_dict(zoo.layout.unflatten(zoo.weights[row]))
        for split in ("val", "test"):
            expected = accuracy(network, *map(torch.from_numpy, digits.normalised(split)))
            assert getattr(zoo.snapshots[row], split) == pytest.approx(expected, abs=1e-6)
    assert zoo.scores.min() > 0.5


def test_provenance_says_how_the_zoo_was_made(zoo, recipe, digits):
    assert zoo.provenance["recipe"] == recipe.zoo.to_json()
    assert zoo.provenance["images"] == {"name": "digits", "train": 320, "val": 57, "test": 120}
    assert zoo.provenance["preprocessing"]["mean"] == list(digits.mean)
    assert {s.epoch for s in zoo.snapshots} == {24.0}  # the ancestor's 20 and the branch's 4


# Varied zoos


def test_a_varied_zoo_trains_and_scores_every_network_in_its_own_way(digits, tmp_path):
    vary = {"activation": ["tanh", "relu"], "dropout": [0.0, 0.5], "init": ["normal", "kaiming_normal"]}
    recipe = ZooRecipe(images="digits", models=8, epochs=1, limit=64, vary=vary)
    zoo = train.train_zoo(recipe, digits, tmp_path)
    assert zoo.provenance["varied"] == {key: [getattr(own, key) for own in recipe.varied] for key in vary}
    for model, own in enumerate(recipe.varied):
        alone = replace(recipe, vary={}, models=8, **{key: getattr(own, key) for key in vary})
        single = train.train_zoo(alone, digits, tmp_path / str(model))
        assert torch.equal(single.weights[model], zoo.weights[model])
        assert single.snapshots[model] == zoo.snapshots[model]
        network = build(single.architecture)
        network.load_state_dict(zoo.layout.unflatten(zoo.weights[model]))
        expected = accuracy(network, *map(torch.from_numpy, digits.normalised("test")))
        assert zoo.snapshots[model].test == pytest.approx(expected, abs=1e-6)
    assert torch.pdist(zoo.weights).min() > 1


def test_networks_that_diverge_are_left_out_by_name(digits, tmp_path, monkeypatch):
    real = compiled_blocks._train

    def diverging(recipe, layout, data, generator, start):
        found = real(recipe, layout, data, generator, start)
        return found * np.float32("nan") if recipe.rate == 1e-2 else found

    monkeypatch.setattr(compiled_blocks, "_train", diverging)
    recipe = ZooRecipe(images="digits", models=4, epochs=1, limit=64, vary={"rate": [1e-3, 1e-2]})
    zoo = train.train_zoo(recipe, digits, tmp_path)
    gone = [model for model, own in enumerate(recipe.varied) if own.rate == 1e-2]
    assert zoo.provenance["diverged"] == gone
    assert [s.model for s in zoo.snapshots] == [model for model in range(4) if model not in gone]


# Interruption


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


# What is refused


def test_too_few_images_for_one_batch_are_refused(digits, tmp_path):
    with pytest.raises(ArgumentError, match=r"an epoch needs at least one batch of 64 images, got 63 images$"):
        train.train_zoo(replace(SEEDS, limit=63), digits, tmp_path)
    with pytest.raises(ArgumentError, match=r"count must be in 1\.\.343, got 1000$"):
        train.train_zoo(replace(SEEDS, limit=1000), digits, tmp_path)


def test_an_error_does_not_wait_for_what_has_not_begun(digits, tmp_path, monkeypatch):
    """Ctrl-C in a zoo of hours must not train every ancestor that is queued first."""
    begun = []

    def ancestor(recipe, layout, data, family):
        begun.append(family)
        time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(compiled_blocks, "_ancestor", ancestor)
    recipe = ZooRecipe(images="digits", models=200, families=100, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train.train_zoo(recipe, digits, tmp_path, workers=1)
    assert len(begun) < 10
