"""Joining and fixing sets of neurons, and the rules of reshapes, slices and swaps."""

import pytest
import torch

from hyperinit_training.symmetry.neurons import Neurons, fix, join, kept, reshaped, sliced, swapped


def same(first, second):
    return first.root() is second.root()


def test_joined_sets_are_fixed_together():
    a, b, c = Neurons(4), Neurons(4), Neurons(4)
    join(a, b)
    join(c, b)
    assert same(a, b)
    assert same(b, c)
    fix(c)
    assert a.root().fixed


def test_what_is_fixed_in_one_is_fixed_in_both():
    a, b = Neurons(4), Neurons(4)
    fix(b)
    assert join(a, b).fixed
    c = Neurons(4)
    assert join(c, None) is None
    assert c.root().fixed


@pytest.mark.parametrize(("sizes", "size"), [((4, 4), 4), ((4, 36), 4), ((36, 4), 4), ((16, 24), 8), ((4, 3), 1)])
def test_blocks_become_as_large_as_both_sets_need(sizes, size):
    assert join(*map(Neurons, sizes)).size == size


@pytest.mark.parametrize(
    ("before", "place", "after", "there"),
    [
        ((2, 4, 3, 3), 1, (2, 36), 1),  # flatten
        ((2, 4, 9), 1, (2, 4, 3, 3), 1),  # pixels apart
        ((2, 36), 1, (2, 4, 9), 1),  # channels apart again
        ((1, 4, 1, 1), 1, (4,), 0),  # squeeze
        ((4,), 0, (1, 4, 1), 1),  # unsqueeze
        ((2, 4), 1, (2, 4), 1),
    ],
)
def test_neurons_stay_where_they_are_the_outermost_part(before, place, after, there):
    neurons = Neurons(4)
    axes = tuple(neurons if axis == place else None for axis in range(len(before)))
    found = reshaped(before, axes, after)
    assert [axis for axis, entry in enumerate(found) if entry is not None] == [there]
    assert same(found[there], neurons)
    assert not neurons.root().fixed
    assert neurons.root().size == 4


@pytest.mark.parametrize(
    ("before", "place", "after"),
    [
        ((2, 9, 4), 2, (2, 36)),  # channels last: the innermost part
        ((2, 4, 9), 1, (8, 9)),  # mixed with the batch
        ((2, 1, 9), 1, (2, 9)),
    ],
)
def test_neurons_elsewhere_are_fixed(before, place, after):
    neurons = Neurons(before[place])
    reshaped(before, tuple(neurons if axis == place else None for axis in range(len(before))), after)
    assert neurons.root().fixed


def test_an_axis_that_is_cut_moves_in_what_both_sizes_share():
    neurons = Neurons(6)
    found = reshaped((2, 6), (None, neurons), (2, 2, 3))
    assert same(found[1], neurons)
    assert neurons.root().size == 2


def test_mixed_axes_are_fixed():
    a, b = Neurons(2), Neurons(3)
    assert kept((a, b), [True, False]) == (a, None)
    assert (a.fixed, b.fixed) == (False, True)


@pytest.mark.parametrize(
    ("numbers", "two", "order"),
    [((2, 0, 1), False, [2, 0, 1]), ([0, -1, 1], False, [0, 2, 1]), ((-1, 0), True, [2, 1, 0])],
)
def test_swaps_move_neurons_as_torch_moves_axes(numbers, two, order):
    x = tuple(Neurons(n) for n in (2, 3, 4))
    tensor = torch.zeros(2, 3, 4)
    assert swapped(x, numbers, two=two) == tuple(x[axis] for axis in order)
    moved = tensor.transpose(*numbers) if two else tensor.permute(*numbers)
    assert moved.shape == tuple(x[axis].size for axis in order)


@pytest.mark.parametrize("numbers", [None, (0, 1), ("a", 0, 1)])
def test_other_swaps_are_not_supported(numbers):
    assert swapped(tuple(Neurons(n) for n in (2, 3, 4)), numbers, two=False) is None


@pytest.mark.parametrize(
    ("index", "left", "fixed"),
    [
        (0, [1, 2], [0]),
        ((slice(None), slice(None), slice(0, 2)), [0, 1, None], [2]),
        ((slice(None), 1), [0, 2], [1]),
    ],
)
def test_slices_fix_what_they_cut(index, left, fixed):
    x = tuple(Neurons(n) for n in (2, 3, 4))
    assert sliced(x, index) == tuple(None if axis is None else x[axis] for axis in left)
    assert [axis for axis, neurons in enumerate(x) if neurons.fixed] == fixed


def test_other_indices_are_not_supported():
    assert sliced((Neurons(2),), (None, slice(None))) is None
