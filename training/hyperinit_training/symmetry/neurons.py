"""Sets of neurons that must be changed together, and rules for operations that reshape, slice or swap axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


class Neurons:
    """A set of neurons that must be permuted, or flipped in sign, together: a node of a union-find forest.

    Args:
        size: number of neurons. An axis that is longer consists of `size` blocks of equal length, one per neuron.
    """

    def __init__(self, size: int) -> None:
        self.size, self.fixed = size, False
        self.parent: Neurons | None = None

    def root(self) -> Neurons:
        """Return the representative of the set that this one was joined into."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node


Axes = tuple[Neurons | None, ...]  # one entry per axis of a tensor; None is an axis whose order is fixed


def join(first: Neurons | None, second: Neurons | None) -> Neurons | None:
    """Join two sets. The joined set is fixed if either set is fixed, or is None.

    The new size is the greatest common divisor, because a block must be a whole number of blocks in both sets.

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
    """Mark sets as fixed: their neurons keep their order and signs."""
    for neurons in found:
        if neurons is not None:
            neurons.root().fixed = True


def reshaped(before: tuple[int, ...], axes: Axes, after: tuple[int, ...]) -> Axes:
    """Return the axes after a flatten, view or squeeze.

    Neurons stay free where they are the outermost (slowest) part of the new axis. Elsewhere they are fixed.

    >>> neurons = Neurons(2)
    >>> reshaped((1, 2, 3), (None, neurons, None), (1, 6)) == (None, neurons)
    True
    """
    fix(*(neurons for neurons, length in zip(axes, before, strict=True) if length == 1))
    old = [(length, neurons) for length, neurons in zip(before, axes, strict=True) if length != 1]
    new = [(length, place) for place, length in enumerate(after) if length != 1]
    found: list[Neurons | None] = [None] * len(after)
    # Walk over both shapes and pair the shortest runs of axes with equal products, such as (4, 3, 3) with (36,).
    while old and new:
        (mine, outer), (other, place) = old.pop(0), new.pop(0)
        if outer is not None:
            found[place] = join(outer, Neurons(other))  # the size becomes what divides both lengths
        while mine != other:
            if mine < other:
                length, inner = old.pop(0)
                fix(inner)  # not the outermost axis of its run
                mine *= length
            else:
                other *= new.pop(0)[0]
    return tuple(found)


def kept(x: Axes, keep: Iterable[bool]) -> Axes:
    """Return the axes after an operation that mixes some of them: those where `keep` is False become fixed.

    >>> kept((None, Neurons(2)), [True, False])
    (None, None)
    """
    pairs = list(zip(x, keep, strict=True))
    fix(*(neurons for neurons, stays in pairs if not stays))
    return tuple(neurons if stays else None for neurons, stays in pairs)


def leading(x: Axes, count: int) -> Axes:
    """Keep the first `count` axes, and fix the others.

    >>> leading((None, Neurons(2)), 1)
    (None, None)
    """
    return kept(x, [axis < count for axis in range(len(x))])


def sliced(x: Axes, index: Any) -> Axes | None:
    """Return the axes after `tensor[index]`, or None if the index is not supported.

    An axis indexed by `:` keeps its neurons. Any other index fixes them.

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
    """Return the axes after `permute(*numbers)`, or after `transpose` if `two`; None if `numbers` are not supported.

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
