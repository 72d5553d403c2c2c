"""Batched weight matching gives each network what plain weight matching gives it alone, and matches signs."""

from itertools import permutations, product

import pytest
import torch
from looped import looped
from reordered import permutation_index
from scipy.optimize import linear_sum_assignment
from seeds import gen
from torch import nn
from torch.func import functional_call

from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import ResNet, cnn
from hyperinit_training.symmetry import permutation_groups, sign_groups
from hyperinit_training.symmetry.align import align
from hyperinit_training.symmetry.matching import Moves, fit_all, match_all, movable, typical
from hyperinit_training.symmetry.positions import neuron_positions


def tanh_net():
    return nn.Sequential(nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 9))


def residual():
    net = ResNet(width=4, blocks=1)
    return Layout.of(net).with_groups(permutation_groups(net, torch.ones(2, 3, 8, 8)).groups)


def plainly_matched(weights, reference, layout, generator):
    """Match one network as the paper writes it: every sweep solves every group, until a sweep changes none."""
    positions = neuron_positions(layout)
    current, reference, names = weights.double(), reference.double(), list(positions)
    changed = True
    while changed:
        changed = False
        for number in torch.randperm(len(names), generator=generator).tolist():
            where = positions[names[number]]
            similarity = sum(reference[table] @ current[table].T for table in where)
            order = torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])
            gain = similarity.gather(1, order[:, None]).sum() - similarity.diagonal().sum()
            moved = current[permutation_index(layout, {names[number]: order})]
            if len(where) > 1:
                gain = torch.minimum(gain, (moved - current) @ reference)
            if gain > 1e-9 * similarity.abs().max():
                current, changed = moved, True
    return current


@pytest.mark.parametrize("make", [lambda: Layout.of(cnn()), residual, looped], ids=["chain", "residual", "two axes"])
def test_a_batch_equals_plain_matching_of_one_network_at_a_time(make):
    layout = make()
    weights, reference = torch.randn(6, layout.size, generator=gen()), torch.randn(layout.size, generator=gen(1))
    groups, moved = movable(layout.tensors), weights
    for name, moves in match_all(weights, reference, groups, gen(2)).items():
        moved = moves.apply(moved, groups[name].positions)
    # A network that needs fewer sweeps than others draws fewer orders of groups, and those it draws are the same.
    expected = torch.stack([plainly_matched(row, reference, layout, gen(2)) for row in weights])
    assert torch.equal(moved.double(), expected)
    assert not torch.equal(moved, weights)


def layout_and_groups():
    layout = Layout.of(tanh_net())
    return layout, movable(layout.tensors, sign_groups(tanh_net(), torch.ones(2, 16)).groups)


def test_known_orders_and_signs_are_undone():
    layout, groups = layout_and_groups()
    weights = torch.randn(layout.size, generator=gen())
    drawn = {
        name: Moves(
            torch.rand(20, len(group.positions[0]), generator=gen(1)).argsort(1),
            torch.randint(2, (20, len(group.positions[0])), generator=gen(2)) * 2.0 - 1,
        )
        for name, group in groups.items()
    }
    copies = weights.repeat(20, 1)
    for name, moves in drawn.items():
        copies = moves.apply(copies, groups[name].positions)
    assert len(copies.unique(dim=0)) == 20
    signs = sign_groups(tanh_net(), torch.ones(2, 16)).groups
    aligned = align(copies, layout, generator=gen(), reference=weights, rounds=1, signs=signs)
    assert torch.equal(aligned, weights.expand(20, -1))
    plain = align(copies, layout, generator=gen(), reference=weights, rounds=1)
    assert not torch.equal(plain, aligned), "orders alone do not undo signs"


def test_one_hidden_layer_gets_the_best_orders_and_signs_of_all():
    layout = Layout.of(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)))
    signs = {"0.weight": ("s", None), "0.bias": ("s",), "2.weight": (None, "s")}
    groups = movable(layout.tensors, signs)
    weights, reference = torch.randn(2, layout.size, generator=gen(4))
    [(name, found)] = match_all(weights[None], reference, groups, gen()).items()
    everything = [
        Moves(torch.tensor([order]), torch.tensor([sign]))
        for order, sign in product(permutations(range(3)), product([1.0, -1.0], repeat=3))
    ]
    distances = [(m.apply(weights[None], groups[name].positions) - reference).norm().item() for m in everything]
    got = found.apply(weights[None], groups[name].positions)
    assert (got - reference).norm().item() == pytest.approx(min(distances), abs=1e-5)


def test_alignment_with_signs_keeps_functions_and_comes_closer():
    layout, _ = layout_and_groups()
    zoo, x = torch.randn(12, layout.size, generator=gen(5)), torch.randn(8, 16, generator=gen(6))
    signs = sign_groups(tanh_net(), torch.ones(2, 16)).groups
    results = [align(zoo, layout, generator=gen(), signs=used) for used in (None, signs)]
    spreads = [(found - found.mean(0)).square().sum().item() for found in results]
    assert spreads[1] < spreads[0]
    net = tanh_net()
    for before, after in zip(zoo, results[1], strict=True):
        expected, got = (functional_call(net, layout.raw_tensors(row), x) for row in (before, after))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_lone_neuron_flips_without_an_order():
    """A layer of one neuron has no order, but a sign."""
    layout = Layout.of(nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1))).with_groups({})
    signs = {"0.weight": ("s", None), "0.bias": ("s",), "2.weight": (None, "s")}
    weights = torch.tensor([[-1.0, -2.0, -3.0, 4.0]])
    aligned = align(weights, layout, generator=gen(), reference=weights[0].abs(), rounds=1, signs=signs)
    assert aligned.tolist() == [[1, 2, 3, 4]]


def test_signs_of_other_neurons_than_those_of_an_order_are_refused():
    layout = Layout.of(tanh_net())
    with pytest.raises(LayoutError, match="must hold the neurons of one permutation group or of none, got group s"):
        movable(layout.tensors, {"0.weight": ("s", None), "2.weight": (None, "s")})
    with pytest.raises(LayoutError, match="groups must give one entry for each axis"):
        align(torch.zeros(1, layout.size), layout, generator=gen(), signs={"0.weight": ("s",)})


def test_moves_follow_each_other():
    first, second = (
        Moves(torch.rand(3, 5, generator=gen(s)).argsort(1), torch.randint(2, (3, 5), generator=gen(s)) * 2.0 - 1)
        for s in (1, 2)
    )
    where, weights = [torch.arange(10).reshape(5, 2)], torch.randn(3, 10, generator=gen(3))
    stepwise = second.apply(first.apply(weights, where), where)
    assert torch.equal(second.after(first).apply(weights, where), stepwise)
    assert torch.equal(first[1].order, first.order[1])


def test_rounds_return_moves_from_the_networks_as_given():
    layout, groups = layout_and_groups()
    weights = torch.randn(5, layout.size, generator=gen(7))
    generator, stepwise, target = gen(8), weights, weights[0]
    for _ in range(3):
        for name, moves in match_all(stepwise, target, groups, generator).items():
            stepwise = moves.apply(stepwise, groups[name].positions)
        target = stepwise.mean(0)
    moved = weights
    for name, moves in fit_all(weights, weights[0], groups, gen(8), 3).items():
        moved = moves.apply(moved, groups[name].positions)
    assert torch.equal(moved, stepwise)


def test_the_typical_network_does_not_depend_on_orders_or_signs():
    layout, groups = layout_and_groups()
    weights = torch.randn(9, layout.size, generator=gen(9))
    chosen = (typical(weights, groups) == weights).all(1).nonzero().item()
    moved = weights
    for group in groups.values():
        neurons = len(group.positions[0])
        moves = Moves(torch.rand(9, neurons, generator=gen(1)).argsort(1), -torch.ones(9, neurons))
        moved = moves.apply(moved, group.positions)
    assert torch.equal(typical(moved, groups), moved[chosen])
