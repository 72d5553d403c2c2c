"""Zoos by `train_zoo`: families, scores, provenance, and the recognition of a network."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import build, describe
from hyperinit_training.machine.lock import locked
from hyperinit_training.measure.finetune import accuracy
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn, serial_blocks, train
from hyperinit_training.train_zoo.serial import Format
from hyperinit_training.zoo.zoo import Snapshot, Zoo

FAMILIES = ZooRecipe(images="digits", models=6, families=3, epochs=2, branch_epochs=1, limit=128)
SEEDS = ZooRecipe(images="digits", models=5, epochs=3, snapshots=(1, 3), schedule="linear", limit=128)


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
        network.load_state_dict(zoo.layout.raw_tensors(zoo.weights[row]))
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
        network.load_state_dict(zoo.layout.raw_tensors(zoo.weights[model]))
        expected = accuracy(network, *map(torch.from_numpy, digits.normalised("test")))
        assert zoo.snapshots[model].test == pytest.approx(expected, abs=1e-6)
    assert torch.pdist(zoo.weights).min() > 1


# Networks


def mlp(hidden=4, activation=nn.Tanh):
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), activation(), nn.Linear(hidden, 10))


def zoo_of(network, recorded):
    weights, snapshot = torch.zeros(1, Layout.of(network).size), Snapshot(0, 0, 1.0, "train", 0.5, 0.5)
    return Zoo(Layout.of(network), weights, (snapshot,), describe(network), {"network": recorded})


@pytest.mark.parametrize("recorded", [Layout.of(mlp()).digest, repr(mlp())], ids=["digest", "earlier version"])
def test_the_network_of_a_finished_zoo_is_recognised(tmp_path, recorded):
    zoo_of(mlp(), recorded).save(tmp_path)
    zoo = Zoo.load(tmp_path)
    assert train.same_network(zoo, mlp)
    assert not train.same_network(zoo, lambda: mlp(hidden=5))
    assert not train.same_network(zoo, lambda: mlp(activation=nn.ReLU))
    assert not train.same_network(zoo, None)


def test_the_papers_cnn_is_no_network_of_ones_own(zoo):
    assert train.same_network(zoo, None)
    assert not train.same_network(zoo, mlp)


# Faults


@pytest.mark.parametrize("setting", [torch.float64, torch.bfloat16, torch.inference_mode, "meta"])
@pytest.mark.parametrize("engine", ["compiled", "torch", "serial"])
def test_settings_of_the_caller_change_nothing(digits, tmp_path, monkeypatch, setting, engine):
    form = Format(torch.float32, torch.contiguous_format)
    monkeypatch.setattr(serial_blocks, "fastest_format", lambda *_: form)  # otherwise timed, and so not always the same
    recipe = replace(FAMILIES, models=2, families=1, epochs=1)
    whole = train.train_zoo(recipe, digits, tmp_path / "whole", engine=engine)
    dtype = setting if isinstance(setting, torch.dtype) else torch.float32
    torch.set_default_dtype(dtype)
    try:
        with nullcontext() if setting is dtype else torch.device("meta") if setting == "meta" else setting():
            found = train.train_zoo(recipe, digits, tmp_path / "other", engine=engine)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.weights, whole.weights)
    assert found.snapshots == whole.snapshots


def test_work_on_other_images_is_not_continued(digits, tmp_path, monkeypatch):
    """Networks that saw different images would be mixed in one zoo."""
    with monkeypatch.context() as patch:
        patch.setattr(train.Zoo, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train.train_zoo(SEEDS, digits, tmp_path)
    other = replace(digits, x_train=255 - digits.x_train)
    with pytest.raises(ArgumentError, match="holds unfinished work on other images; delete it or name another folder"):
        train.train_zoo(SEEDS, other, tmp_path)
    assert len(train.train_zoo(SEEDS, digits, tmp_path)) == 10


def test_a_second_training_in_a_folder_is_refused(digits, tmp_path):
    with locked(tmp_path), ThreadPoolExecutor(1) as pool:
        second = pool.submit(train.train_zoo, SEEDS, digits, tmp_path)
        with pytest.raises(ArgumentError, match="must be used by one training at a time, got a second; wait until"):
            second.result()
    assert not list(tmp_path.iterdir())


def test_a_zoo_of_networks_that_all_diverge_is_refused(digits, tmp_path, monkeypatch):
    real = compiled_cnn.train

    def diverging(*arguments):
        found, losses = real(*arguments)
        return found * float("nan"), losses

    monkeypatch.setattr(compiled_cnn, "train", diverging)
    with pytest.raises(
        ZooError, match="a network must keep finite weights, all 5 diverged; lower the rate of the reci"
    ):
        train.train_zoo(SEEDS, digits, tmp_path)


def test_compiling_is_said_until_the_first_networks_are_done(digits, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(train.Progress, "say", lambda _, note: said.append(note))
    train.train_zoo(replace(SEEDS, models=20), digits, tmp_path)
    assert said == ["compiling, then training the first networks", "", ""]


# What is refused


def test_too_few_images_for_one_batch_are_refused(digits, tmp_path):
    with pytest.raises(ArgumentError, match=r"an epoch needs at least one batch of 64 images, got 63 images$"):
        train.train_zoo(replace(SEEDS, limit=63), digits, tmp_path)
    with pytest.raises(ArgumentError, match=r"count must be in 1\.\.343, got 1000$"):
        train.train_zoo(replace(SEEDS, limit=1000), digits, tmp_path)
