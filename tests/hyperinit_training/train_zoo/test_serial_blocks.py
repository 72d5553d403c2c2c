"""Zoos of the serial engine, through `train_zoo`."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.nets import build
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import serial_blocks, train_zoo
from hyperinit_training.train_zoo.serial import Format, Trainee
from hyperinit_training.zoo.zoo import Zoo

FAMILIES = ZooRecipe(
    images="digits", models=4, families=2, network="resnet8x2", batch=64, optimizer="sgd", rate=0.1,
    schedule="one-cycle", augment="crop", epochs=2, branch_epochs=1, branch_rate=0.02, limit=128,
)  # fmt: skip
SEEDS = replace(FAMILIES, models=3, families=0, snapshots=(1, 2))
pytestmark = pytest.mark.usefixtures("_global_generator_unmoved", "_one_format")


@pytest.fixture
def _one_format(monkeypatch):
    """The format is timed, so that two runs could differ in it."""
    monkeypatch.setattr(serial_blocks, "fastest_format", lambda *_: Format(torch.float32, torch.contiguous_format))


@pytest.mark.parametrize("recipe", [FAMILIES, SEEDS], ids=["families", "seeds"])
def test_the_zoo_does_not_depend_on_the_number_of_threads(digits, tmp_path, recipe):
    one, two = (train_zoo(recipe, digits, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert torch.equal(one.weights, two.weights)
    assert one.snapshots == two.snapshots
    assert len(one) == (4 if recipe.families else 6)
    assert one.provenance["engine"] == "serial on cpu"
    assert one.architecture == [["resnet", {"channels": 1, "classes": 10, "blocks": 1, "width": 2}]]
    assert not (tmp_path / "1" / "blocks").exists()


def test_members_begin_with_the_weights_of_their_ancestor(digits, tmp_path):
    zoo = train_zoo(replace(FAMILIES, branch_rate=1e-9), digits, tmp_path)
    parameters = torch.cat([torch.full((t.size,), not t.buffer) for t in zoo.layout.tensors])
    weights = zoo.weights[:, parameters]
    families = [s.family for s in zoo.snapshots]
    assert families == [0, 0, 1, 1]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(weights[2], weights[3], rtol=0, atol=1e-6)
    assert (weights[0] - weights[2]).abs().max() > 0.1


def test_scores_are_those_of_the_network_that_the_weights_make(digits, tmp_path):
    zoo = train_zoo(SEEDS, digits, tmp_path)
    images, labels = (torch.from_numpy(part) for part in digits.normalised("test"))
    for weights, snapshot in zip(zoo.weights, zoo.snapshots, strict=True):
        net = build(zoo.architecture)
        net.load_state_dict(zoo.layout.state(weights), strict=False)
        with torch.no_grad():
            accuracy = (net.eval()(images).argmax(1) == labels).float().mean().item()
        assert snapshot.test == pytest.approx(accuracy, abs=0.02)  # scores are computed in the format of the training


def test_a_killed_zoo_goes_on_within_a_network(digits, tmp_path, monkeypatch):
    """It is killed in the second epoch of the first ancestor, whose first epoch is not trained again."""
    whole = train_zoo(FAMILIES, digits, tmp_path / "whole", workers=1)
    real, epochs = Trainee._epoch, []

    def killed(self, task, steps, *rest):
        epochs.append((task.seed, steps.start))
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return real(self, task, steps, *rest)

    monkeypatch.setattr(Trainee, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train_zoo(FAMILIES, digits, tmp_path / "killed", workers=1)
    resumed = train_zoo(FAMILIES, digits, tmp_path / "killed", workers=1)
    assert torch.equal(resumed.weights, whole.weights)
    assert epochs.count(("0/-1", 0)) == 1
    assert epochs.count(("0/-1", 2)) == 2


def test_a_resumed_zoo_keeps_the_format_of_its_start(digits, tmp_path, monkeypatch):
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / serial_blocks.FORMAT).write_text("float32 channels_last\n")
    seen = []

    class Spy(Trainee):
        def __init__(self, module, layout, form, device):
            seen.append(str(form))
            super().__init__(module, layout, form, device)

    monkeypatch.setattr(serial_blocks, "Trainee", Spy)
    train_zoo(SEEDS, digits, tmp_path)
    assert set(seen) == {"float32 channels_last"}


def test_networks_of_the_user_with_buffers_or_dropout_take_this_engine(digits, tmp_path):
    def normed():
        return nn.Sequential(
            nn.Conv2d(1, 4, 5, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(256, 10)
        )

    recipe = ZooRecipe(images="digits", models=2, epochs=2, limit=128)
    zoo = train_zoo(recipe, digits, tmp_path, network=normed)
    assert zoo.provenance["engine"] == "serial on cpu"
    assert zoo.provenance["network"] == zoo.layout.digest
    assert Zoo.load(tmp_path).snapshots == zoo.snapshots


def test_the_progress_adds_up_to_the_number_of_networks(digits, tmp_path, monkeypatch):
    counts = []
    real = serial_blocks._OneByOne.train_blocks
    monkeypatch.setattr(serial_blocks._OneByOne, "train_blocks", lambda self, todo, _: real(self, todo, counts.append))
    train_zoo(FAMILIES, digits, tmp_path)
    assert len(counts) == 2 * 2 + 4
    assert sum(counts) == pytest.approx(4)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_another_engine_is_refused(digits, tmp_path, engine):
    with pytest.raises(ArgumentError, match=f"engine {engine} trains"):
        train_zoo(FAMILIES, digits, tmp_path, engine=engine)
