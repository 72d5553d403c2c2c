"""Positions of neurons in a weight vector, and permuting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hyperinit.layout import Layout

Groups = Mapping[str, tuple[str | None, ...]]  # for each tensor by name, the group of each axis


def neuron_positions(layout: Layout) -> dict[str, tuple[Tensor, ...]]:
    """For each permutation group, where in the vector the weights of each of its neurons lie.

    Returns:
        Positions, int64 (n, K) per group: row i lists all that moves with neuron i, in the same order in every row.
        A group that moves two axes of one tensor, as that of a residual block of one layer does, has a second
        table, for the second axes; what lies in both moves twice.

    >>> from torch import nn
    >>> neuron_positions(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))))
    {'0': (tensor([[0, 2, 4],
            [1, 3, 5]]),)}
    """
    tensors = layout.unflatten(torch.arange(layout.size))
    positions = {}
    for group, neurons in layout.group_sizes.items():
        tables: list[list[Tensor]] = []
        for spec in layout.tensors:
            axes = [axis for axis, moved in enumerate(spec.groups) if moved == group]
            for number, axis in enumerate(axes):
                if number == len(tables):
                    tables.append([])
                tables[number].append(tensors[spec.name].movedim(axis, 0).reshape(neurons, -1))
        positions[group] = tuple(torch.cat(table, dim=1) for table in tables)
    return positions


def permute(weights: Tensor, positions: Sequence[Tensor], orders: Tensor) -> Tensor:
    """Reorder the neurons of one group, every network in its own order.

    Args:
        weights: weight vectors, or anything of that length, (B, D).
        positions: where the group's neurons lie, each (n, K), from `neuron_positions`.
        orders: neuron i becomes what neuron `orders[b, i]` was, int64 (B, n).

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
