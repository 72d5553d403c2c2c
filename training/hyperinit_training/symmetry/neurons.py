"""Sets of neurons that move together, and how they go through operations that only move axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


class Neurons:
    """A set of neurons that can only be changed together; sets are joined as trees, `root` is the set as it is now.

    Args:
        size: how many there are; an axis that is longer holds equal blocks of them.
    """

    def __init__(self, size: int) -> None:
        self.size, self.fixed = size, False
        self.parent: Neurons | None = None

    def root(self) -> Neurons:
        """Return the set that this one is now part of."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node


Axes = tuple[Neurons | None, ...]  # one entry per axis of a tensor; None is an axis whose order is fixed


def join(first: Neurons | None, second: Neurons | None) -> Neurons | None:
    """Make two sets one: the blocks become as large as both need, and what is fixed in one is fixed in both.

    >>> join(Neurons(12), Neurons(8)).size
    4
    """
    if first is None or second is None:
        fix(first, second)
        return None
    first, second = first.root(), second.root()
    if first is not second:
        second.parent, first.size = first, math.gcd(first.size, second.size)
        first.fixed |= second.fixed
    return first


def fix(*found: Neurons | None) -> None:
    """Forbid any change of these neurons."""
    for neurons in found:
        if neurons is not None:
            neurons.root().fixed = True


def reshaped(before: tuple[int, ...], axes: Axes, after: tuple[int, ...]) -> Axes:
    """Follow neurons through a flatten, view or squeeze: they stay where they are the outermost part of an axis.

    >>> neurons = Neurons(2)
    >>> reshaped((1, 2, 3), (None, neurons, None), (1, 6)) == (None, neurons)
    True
    """
    fix(*(neurons for neurons, length in zip(axes, before, strict=True) if length == 1))
    old = [(length, neurons) for length, neurons in zip(before, axes, strict=True) if length != 1]
    new = [(length, place) for place, length in enumerate(after) if length != 1]
    found: list[Neurons | None] = [None] * len(after)
    while old and new:
        (mine, outer), (other, place) = old.pop(0), new.pop(0)
        if outer is not None:
            found[place] = join(outer, Neurons(other))
        while mine != other:
            if mine < other:
                length, inner = old.pop(0)
                fix(inner)
                mine *= length
            else:
                other *= new.pop(0)[0]
    return tuple(found)


def kept(x: Axes, keep: Iterable[bool]) -> Axes:
    """Fix the axes that an operation mixes.

    >>> kept((None, Neurons(2)), [True, False])
    (None, None)
    """
    pairs = list(zip(x, keep, strict=True))
    fix(*(neurons for neurons, stays in pairs if not stays))
    return tuple(neurons if stays else None for neurons, stays in pairs)


def leading(x: Axes, count: int) -> Axes:
    """Keep the first axes, and fix the others.

    >>> leading((None, Neurons(2)), 1)
    (None, None)
    """
    return kept(x, [axis < count for axis in range(len(x))])


def sliced(x: Axes, index: Any) -> Axes | None:
    """Follow neurons through `tensor[index]`: whole axes keep theirs; None if the index is not understood.

    >>> neurons = Neurons(2)
    >>> sliced((None, neurons, None), (slice(None), slice(None), 0)) == (None, neurons)
    True
    """
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(item, slice | int) for item in index):
        return None
    items = [*index, *[slice(None)] * (len(x) - len(index))]
    stays = kept(x, [item == slice(None) for item in items])
    return tuple(neurons for neurons, item in zip(stays, items, strict=True) if not isinstance(item, int))


def swapped(x: Axes, numbers: Any, *, two: bool) -> Axes | None:
    """Follow neurons through `permute(*numbers)`, or `transpose` of two axes; None if that is not understood.

    >>> neurons = Neurons(2)
    >>> swapped((None, neurons, None), (1, 2), two=True) == (None, None, neurons)
    True
    """
    if not isinstance(numbers, list | tuple) or not all(isinstance(number, int) for number in numbers):
        return None
    order = [number % len(x) for number in numbers]
    if two and len(order) == 2:
        (a, b), order = order, list(range(len(x)))
        order[a], order[b] = b, a
    return tuple(x[axis] for axis in order) if len(order) == len(x) else None
