"""Checkpoints as a zoo: the columns follow the layout, and copies are held out together."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hyperinit import nets
from hyperinit.checkpoints.layout import StateLayout
from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit_training.checkpoints.as_zoo import as_zoo
from hyperinit_training.checkpoints.read import Checkpoints


def make():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def checkpoints(count, copies=1):
    """Random networks, each `copies` times, whose rows hold the tensors in reverse order of the state dict."""
    state = make().state_dict()
    layout = StateLayout.of(dict(reversed(state.items())))
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(count, layout.size, generator=generator).repeat(copies, 1)
    names = tuple(f"{row:02}.pt" for row in range(len(weights)))
    return Checkpoints(layout, weights, names, digests=tuple(str(row % count) for row in range(len(weights))))


def convert(found, holdout=0.0, seed=0, factory=make, families=None):
    families = torch.zeros(len(found), dtype=torch.long) if families is None else families
    return as_zoo(found, Layout.of(make()), families, factory, holdout, seed)


def test_columns_follow_the_layout_of_the_network():
    found = checkpoints(8)
    zoo = convert(found)
    for row, weights in zip(zoo.weights, found.weights, strict=True):
        state = found.layout.views(weights)
        assert torch.equal(row, zoo.layout.flatten(state))
    assert not torch.equal(zoo.weights, found.weights)


def test_copies_lie_on_one_side_of_the_split():
    zoo = convert(checkpoints(12, copies=2), holdout=0.3)
    splits = {}
    for snapshot in zoo.snapshots:
        splits.setdefault(snapshot.model, []).append(snapshot.split)
    assert len(splits) == 12
    assert sorted(splits.values()) == [["train", "train"]] * 8 + [["val", "val"]] * 4


@pytest.mark.parametrize(
    ("models", "holdout", "held"),
    [
        (20, 0.0, 0),
        (20, 0.25, 5),
        (20, 0.001, 1),  # at least one
        (20, 0.9, 12),  # at least 8 networks stay for training
        (9, 0.5, 1),
        (8, 0.5, 0),
    ],
)
def test_the_share_that_is_held_out_leaves_enough_for_training(models, holdout, held):
    zoo = convert(checkpoints(models), holdout=holdout)
    assert len(zoo.part("val")) == held
    assert len(zoo.part("train")) == models - held


def test_the_seed_decides_the_split_and_the_global_generator_is_left_alone():
    found, layout = checkpoints(20), Layout.of(make())
    families, state = torch.zeros(20, dtype=torch.long), torch.get_rng_state()
    first, again, other = (as_zoo(found, layout, families, make, 0.5, seed) for seed in (0, 0, 1))
    assert first.snapshots == again.snapshots != other.snapshots
    assert torch.equal(torch.get_rng_state(), state)


def test_snapshots_hold_scores_epochs_and_families():
    found = replace(checkpoints(8), scores=torch.arange(8.0) / 8, epochs=torch.arange(8.0))
    zoo = convert(found, families=torch.arange(8) // 2)
    assert [(s.model, s.family, s.epoch, s.val, s.test) for s in zoo.snapshots] == [
        (row, row // 2, row, row / 8, row / 8) for row in range(8)
    ]


def test_unknown_scores_and_epochs_are_zero():
    assert {(s.epoch, s.val, s.test) for s in convert(checkpoints(8)).snapshots} == {(0.0, 0.0, 0.0)}


def test_only_a_sequential_of_known_modules_is_described():
    class Own(nn.Sequential):
        pass

    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    assert convert(checkpoints(8), factory=lambda: plain).architecture == nets.describe(plain)
    assert convert(checkpoints(8), factory=lambda: Own(*plain)).architecture is None
    assert convert(checkpoints(8), factory=lambda: nn.Sequential(*plain, nn.PixelShuffle(1))).architecture is None


def test_tensors_outside_of_known_layers_are_refused():
    found = checkpoints(8)
    state = make().state_dict() | {"scale": torch.ones(2)}
    other = StateLayout.of(state)
    with pytest.raises(LayoutError, match=r"must belong to conv, linear or norm layers, got scale$"):
        convert(replace(found, layout=other, weights=torch.zeros(8, other.size)))
