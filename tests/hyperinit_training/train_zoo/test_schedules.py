"""Starting weights and schedules of single networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.schedules import (
    Schedule,
    generator_of,
    initial_weights,
    learning_rates,
    schedule,
    start,
)

SEEDS = ZooRecipe(images="digits", models=5, epochs=3, snapshots=(1, 3), schedule="linear", limit=128)


def pieces(vector):
    return Layout.of(cnn()).raw_tensors(vector).items()


def pieces_of(drawn):
    """Tensors by name, each (N, ...), of vectors (N, D)."""
    rows = [dict(pieces(row)) for row in drawn]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def test_the_default_start_has_the_distribution_of_pytorchs_own():
    drawn = torch.stack([initial_weights("default", Layout.of(cnn()), gen(seed)) for seed in range(50)])
    with torch.random.fork_rng(devices=[]):
        networks = [cnn().state_dict() for _ in range(50)]
    for name, ours in pieces_of(drawn).items():
        theirs = torch.stack([network[name] for network in networks])
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.05), name
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.15), name


def test_the_papers_start_is_positive_with_biases_of_a_hundredth():
    for name, tensor in pieces(initial_weights("uniform", Layout.of(cnn()), gen())):
        if name.endswith("bias"):
            assert torch.all(tensor == 0.01)
        else:
            assert 0 <= tensor.min() < 0.1
            assert 0.9 < tensor.max() <= 1


def test_the_kaiming_start_is_pytorchs_function():
    generator = gen()
    for name, tensor in pieces(initial_weights("kaiming_uniform", Layout.of(cnn()), gen())):
        expected = torch.full_like(tensor, 0.01)
        if not name.endswith("bias"):
            torch.nn.init.kaiming_uniform_(expected, generator=generator)
        assert torch.equal(tensor, expected), name


def test_a_schedule_visits_every_image_once_an_epoch_and_leaves_the_rest_out():
    plan = schedule(replace(SEEDS, batch=10, snapshots=()), 25, gen())
    assert plan.order.shape == (6, 10)
    for epoch in plan.order.reshape(3, 20):
        assert len(set(epoch.tolist())) == 20
        assert set(epoch.tolist()) <= set(range(25))
    assert not np.array_equal(plan.order[:2], plan.order[2:4])
    assert np.array_equal(plan.order, schedule(replace(SEEDS, batch=10), 25, gen()).order)


@pytest.mark.parametrize(
    ("kind", "branch", "expected"),
    [
        ("constant", False, [0.4, 0.4, 0.4, 0.4]),
        ("linear", False, [0.4, 0.3, 0.2, 0.1]),
        ("constant", True, [0.2, 0.2 * 5 / 6, 0.2 * 4 / 6, 0.1, 0.2 / 3, 0.2 / 6]),
    ],
)
def test_rates_stay_or_fall_to_zero(kind, branch, expected):
    """A branch falls to zero whatever the schedule of its ancestor."""
    recipe = ZooRecipe(images="digits", models=1, rate=0.4, epochs=2, branch_rate=0.2, branch_epochs=3, schedule=kind)
    plan = schedule(recipe, 128, gen(), branch=branch)
    np.testing.assert_allclose(plan.rates, expected, rtol=1e-6)
    assert plan.keep == ()


def test_a_schedule_has_the_values_of_the_recipe():
    recipe = replace(SEEDS, decay=0.5, activation="relu")
    plan = schedule(recipe, 130, gen())
    assert (plan.keep, plan.decay, plan.activation) == ((2, 6), 0.5, "relu")


@pytest.mark.parametrize("init", ["default", "uniform", "kaiming_normal"])
def test_norms_start_as_pytorchs(init):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 2))
    layout = Layout.of(network)
    drawn = layout.raw_tensors(initial_weights(init, layout, gen()))
    assert torch.equal(drawn["1.weight"], torch.ones(4))
    assert torch.equal(drawn["1.bias"], torch.zeros(4))
    assert drawn["0.weight"].unique().numel() == 36


def test_every_model_and_ancestor_has_a_generator_of_its_own():
    states = [generator_of(seed, model).initial_seed() for seed in (0, 1) for model in range(-3, 3)]
    assert len(set(states)) == 12


def test_a_member_of_a_family_starts_from_its_ancestor():
    layout, recipe = Layout.of(cnn()), replace(SEEDS, snapshots=(), branch_epochs=2)
    ancestor = torch.arange(float(layout.size))
    weights, plan = start(recipe, layout, 128, gen(), ancestor)
    assert torch.equal(weights, ancestor)
    assert np.array_equal(plan.order, schedule(recipe, 128, gen(), branch=True).order)
    assert len(plan.order) == 4


def test_a_network_without_an_ancestor_starts_from_drawn_weights():
    layout, generator = Layout.of(cnn()), gen()
    weights, plan = start(SEEDS, layout, 128, gen(), None)
    assert torch.equal(weights, initial_weights("default", layout, generator))
    assert np.array_equal(plan.order, schedule(SEEDS, 128, generator).order)  # drawn after the weights


ORDER, RATES = np.zeros((2, 4), np.int64), np.full(2, 1e-3, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": ORDER[0]}, r"order must have shape \(steps, B\).*got \(4,\) and \(2,\)$"),
        ({"order": ORDER[:, :0]}, r"order must have shape \(steps, B\), not empty.*got \(2, 0\) and \(2,\)$"),
        ({"rates": RATES[:1]}, r"rates \(steps,\), got \(2, 4\) and \(1,\)$"),
        ({"keep": (2, 1)}, r"keep must ascend within 1 to 2 steps, got \(2, 1\)$"),
        ({"keep": (0, 1)}, r"keep must ascend within 1 to 2 steps, got \(0, 1\)$"),
        ({"keep": (3,)}, r"keep must ascend within 1 to 2 steps, got \(3,\)$"),
        ({"activation": "elu"}, r"activation must be one of tanh, relu, sigmoid, gelu, got 'elu'$"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\) and its seed be a 32-bit number, got 1.0 and 0$"),
        ({"seed": 2**32}, r"dropout must lie in \[0, 1\) and its seed be a 32-bit number, got 0.0 and 4294967296$"),
    ],
)
def test_a_bad_schedule_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        Schedule(**{"order": ORDER, "rates": RATES} | changes)


@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
def test_the_rates_are_those_of_pytorch(name):
    """PyTorch's scheduler ends one step later, at zero."""
    steps, rate = 50, 0.2
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], rate)
    kind = torch.optim.lr_scheduler
    if name == "cosine":
        scheduler = kind.CosineAnnealingLR(optimizer, steps)
    else:
        scheduler = kind.OneCycleLR(
            optimizer,
            rate,
            steps + 1,
            pct_start=16 / (steps + 1),
            div_factor=25,
            final_div_factor=1e9,
            cycle_momentum=False,
        )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rates(name, rate, steps) == pytest.approx(expected, abs=1e-6)


def test_norms_begin_as_the_identity():
    layout = Layout.of(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
    state = layout.state(initial_weights("default", layout, gen()))
    assert state["1.weight"].tolist() == state["1.running_var"].tolist() == [1, 1]
    assert state["1.bias"].tolist() == state["1.running_mean"].tolist() == [0, 0]
