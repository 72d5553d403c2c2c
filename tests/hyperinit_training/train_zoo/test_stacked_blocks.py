"""Zoos of the PyTorch engine, through `train_zoo`, against those of the compiled engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import build, resnet20
from hyperinit_training.measure.finetune import accuracy
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import blocks, stacked, stacked_blocks, train_zoo
from hyperinit_training.train_zoo.stacked_blocks import together

FAMILIES = ZooRecipe(
    images="digits", models=6, families=3, epochs=2, branch_epochs=1, limit=128, rate=1e-3, branch_rate=1e-3
)
SEEDS = ZooRecipe(images="digits", models=5, epochs=3, snapshots=(1, 3), schedule="linear", limit=128, rate=1e-3)
VARIED = replace(
    SEEDS,
    models=8,
    vary={"activation": ["tanh", "relu"], "rate": [1e-3, 5e-4], "decay": [0.0, 0.01], "init": ["normal"]},
)
RECIPES = {"families": FAMILIES, "seeds": SEEDS, "varied": VARIED}
pytestmark = pytest.mark.usefixtures("_global_generator_unmoved")


def mlp():
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 10))


@pytest.fixture
def trained(monkeypatch):
    """How many networks were trained at once, call by call."""
    real, calls = stacked.train, []

    def counting(network, weights, data, schedules):
        calls.append(len(weights))
        return real(network, weights, data, schedules)

    monkeypatch.setattr(stacked, "train", counting)
    return calls


@pytest.mark.parametrize("name", RECIPES)
def test_the_zoo_is_that_of_the_compiled_kernel(digits, tmp_path, monkeypatch, trained, name):
    monkeypatch.setattr(blocks, "SEEDS_PER_BLOCK", 2)
    ours = train_zoo(RECIPES[name], digits, tmp_path / "torch", engine="torch", workers=4)
    assert trained == {"families": [2, 4, 1, 2], "seeds": [4, 1], "varied": [2, 2, 2, 2]}[name]
    theirs = train_zoo(RECIPES[name], digits, tmp_path / "compiled")
    torch.testing.assert_close(ours.weights, theirs.weights, rtol=0, atol=1e-4)
    for one, other in zip(ours.snapshots, theirs.snapshots, strict=True):
        assert replace(one, val=0, test=0) == replace(other, val=0, test=0)
        assert (one.val, one.test) == pytest.approx((other.val, other.test), abs=0.04)
    assert ours.architecture == theirs.architecture
    assert ours.provenance.get("varied") == theirs.provenance.get("varied")
    assert (ours.provenance["engine"], theirs.provenance.get("engine")) == ("torch on cpu", None)


def test_another_network_makes_a_zoo(digits, tmp_path):
    zoo = train_zoo(replace(SEEDS, limit=320, batch=8, rate=3e-3), digits, tmp_path, network=mlp)
    assert zoo.layout == Layout.of(mlp())
    assert zoo.provenance["network"] == Layout.of(mlp()).digest
    network = build(zoo.architecture)
    for snapshot, weights in zip(zoo.snapshots, zoo.weights, strict=True):
        network.load_state_dict(zoo.layout.raw_tensors(weights))
        for split in ("val", "test"):
            expected = accuracy(network, *map(torch.from_numpy, digits.normalised(split)))
            assert getattr(snapshot, split) == pytest.approx(expected, abs=1e-6)
    assert zoo.scores[1::2].min() > 0.5
    assert torch.pdist(zoo.weights).min() > 0.1


def test_a_network_that_is_no_chain_has_no_description(digits, tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return self.inner(x)

    zoo = train_zoo(replace(SEEDS, models=1), digits, tmp_path, network=Wrapped)
    assert zoo.architecture is None


def test_a_killed_run_goes_on_with_what_is_missing_whichever_engine_began(digits, tmp_path, monkeypatch, trained):
    whole = train_zoo(FAMILIES, digits, tmp_path / "whole", engine="torch")
    write = stacked_blocks.write_tensors

    def dying(path, tensors):
        if path.stem == "000002":
            raise KeyboardInterrupt
        write(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(stacked_blocks, "write_tensors", dying)
        with pytest.raises(KeyboardInterrupt):
            train_zoo(FAMILIES, digits, tmp_path / "zoo", engine="torch", workers=2)
    trained.clear()
    resumed = train_zoo(FAMILIES, digits, tmp_path / "zoo", engine="torch", workers=2)
    assert trained == [1, 2, 1, 2]  # an ancestor and its members, twice; not the finished family again
    torch.testing.assert_close(resumed.weights, whole.weights, rtol=0, atol=1e-5)
    assert not (tmp_path / "zoo" / "blocks").exists()


def relu_mlp():
    network = mlp()
    network[2] = nn.ReLU()
    return network


def test_blocks_of_another_network_are_not_mixed_in(digits, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stacked_blocks, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            train_zoo(SEEDS, digits, tmp_path, network=mlp)
    for other in (None, relu_mlp):  # the layout of the second is the same; its description is not
        with pytest.raises(ArgumentError, match="holds unfinished work of another recipe"):
            train_zoo(SEEDS, digits, tmp_path, network=other)
    assert len(train_zoo(SEEDS, digits, tmp_path, network=mlp)) == 10


def test_the_number_side_by_side_changes_nothing_but_rounding(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "SEEDS_PER_BLOCK", 1)
    zoos = [train_zoo(SEEDS, digits, tmp_path / str(n), engine="torch", workers=n) for n in (1, 3)]
    torch.testing.assert_close(zoos[0].weights, zoos[1].weights, rtol=0, atol=1e-5)


def test_blocks_are_joined_but_never_cut():
    todo = [range(0, 5), range(5, 10), range(10, 12)]
    assert list(together(todo, 3)) == [[block] for block in todo]
    assert list(together(todo, 10)) == [todo[:2], todo[2:]]
    assert list(together(todo, 100)) == [todo]
    assert list(together([], 100)) == []


def test_networks_that_diverge_are_left_out_by_name(digits, tmp_path):
    recipe = replace(SEEDS, models=4, snapshots=(), activation="relu", vary={"rate": [1e-3, 1e30]})
    zoo = train_zoo(recipe, digits, tmp_path, engine="torch")
    gone = [model for model, own in enumerate(recipe.varied) if own.rate == 1e30]
    assert zoo.provenance["diverged"] == gone
    assert [s.model for s in zoo.snapshots] == [model for model in range(4) if model not in gone]


@pytest.mark.parametrize(
    ("recipe", "options", "error", "message"),
    [
        (SEEDS, {"engine": "numba"}, ArgumentError, "engine must be one of compiled, torch, serial, got 'numba'$"),
        (
            SEEDS,
            {"engine": "compiled", "network": mlp},
            ArgumentError,
            "on the CPU, got another network; remove engine='compiled'$",
        ),
        (SEEDS, {"device": "meta"}, ArgumentError, "device must be cpu, cuda or cuda:N, got 'meta'$"),
        (
            SEEDS,
            {"network": resnet20, "engine": "torch"},
            ArgumentError,
            "engine torch trains networks without buffers and dropout, .* remove engine=$",
        ),
        (VARIED, {"network": mlp}, ArgumentError, "vary of activation needs the paper's CNN, got another network"),
        (
            replace(SEEDS, dropout=0.5),
            {"engine": "torch"},
            ArgumentError,
            "the PyTorch engine has no dropout, got 0.5, because its",
        ),
        (replace(SEEDS, limit=63), {"engine": "torch"}, ArgumentError, "needs at least one batch of 64 images, got 63"),
    ],
)
def test_what_does_not_go_together_is_refused(digits, tmp_path, recipe, options, error, message):
    with pytest.raises(error, match=message):
        train_zoo(recipe, digits, tmp_path, **options)


def test_a_gpu_that_is_not_there_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match="device cuda needs a GPU"):
        train_zoo(SEEDS, digits, tmp_path, device="cuda")
    assert not list(tmp_path.iterdir())


def test_the_compiled_kernel_takes_no_gpu(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperinit_training.machine.devices.device_of", lambda _: torch.device("cuda:0"))
    with pytest.raises(ArgumentError, match=r"on the CPU, got device cuda:0; remove engine='compiled'$"):
        train_zoo(SEEDS, digits, tmp_path, device="cuda", engine="compiled")


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_trains_the_zoo_of_the_cpu(digits, tmp_path, name):
    zoos = [
        train_zoo(RECIPES[name], digits, tmp_path / place, device=place, engine="torch") for place in ("cpu", "cuda")
    ]
    torch.testing.assert_close(zoos[1].weights, zoos[0].weights, rtol=0, atol=5e-4)
    assert zoos[1].provenance["engine"].startswith("torch on cuda:")
    np.testing.assert_allclose(zoos[1].scores, zoos[0].scores, rtol=0, atol=0.04)
