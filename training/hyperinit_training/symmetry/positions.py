"""Positions of each neuron's weights in a weight vector, and permutations of neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from hyperinit.layout import Layout, TensorSpec
from hyperinit.layout.layers import group_sizes

Groups = Mapping[str, tuple[str | None, ...]]  # for each tensor by name, the group of each axis


def neuron_positions(layout: Layout) -> dict[str, tuple[Tensor, ...]]:
    """Return the positions of each neuron's weights in the weight vector, for every permutation group.

    Returns:
        Tables of positions by group, int64 (n, K). Row i lists the weights that move with neuron i, in the same order
        in every row. A group that moves two axes of one tensor, as in a residual block of one layer, has a second table
        for the second axes. Weights in both tables move twice.

    >>> from torch import nn
    >>> neuron_positions(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))))
    {'0': (tensor([[0, 2, 4],
            [1, 3, 5]]),)}
    """
    return positions_of(layout.tensors)


def positions_of(specs: Sequence[TensorSpec]) -> dict[str, tuple[Tensor, ...]]:
    """Return the positions of each neuron's weights in a vector that holds one tensor after the other.

    The result is that of `neuron_positions`.

    >>> positions_of([TensorSpec("a", (2, 2), (None, "x"))])
    {'x': (tensor([[0, 2],
            [1, 3]]),)}
    """
    starts = accumulate((spec.size for spec in specs), initial=0)
    tensors = {
        spec.name: torch.arange(start, start + spec.size).reshape(spec.shape)
        for spec, start in zip(specs, starts, strict=False)
    }
    positions = {}
    for group, neurons in group_sizes(specs).items():
        tables: list[list[Tensor]] = []
        for spec in specs:
            axes = [axis for axis, moved in enumerate(spec.groups) if moved == group]
            for number, axis in enumerate(axes):
                if number == len(tables):
                    tables.append([])
                # An axis that is longer than the group has one block per neuron: the reshape gives it one row.
                tables[number].append(tensors[spec.name].movedim(axis, 0).reshape(neurons, -1))
        positions[group] = tuple(torch.cat(table, dim=1) for table in tables)
    return positions


def permute(weights: Tensor, positions: Sequence[Tensor], orders: Tensor) -> Tensor:
    """Permute the neurons of one group, with one order per network.

    Args:
        weights: weight vectors, (B, D).
        positions: tables of the group, each (n, K), from `neuron_positions`.
        orders: new neuron i of network b is old neuron `orders[b, i]`, int64 (B, n).

    Returns:
        A new tensor (B, D).

    >>> permute(torch.tensor([[1.0, 2.0, 3.0]]), [torch.tensor([[0], [1]])], torch.tensor([[1, 0]]))
    tensor([[2., 1., 3.]])
    """
    permuted = weights.clone()
    for where in positions:
        blocks = permuted[:, where]  # (B, n, K)
        permuted[:, where] = blocks.gather(1, orders[:, :, None].expand_as(blocks))
    return permuted
