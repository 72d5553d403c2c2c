"""Augmentations of weight vectors: permuted neurons, which keep the function, and erased blocks, which do not.

Letters: B networks in a batch, D weights per network, n neurons of a permutation group, K weights that move with
one neuron (its incoming weights, its bias and the next layer's weights that read it).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout

CHUNK = 1024  # permutations that are built at once, so that building needs little more memory than the result


def neuron_positions(layout: Layout) -> dict[str, Tensor]:
    """For each permutation group, where in the vector the weights of each of its neurons lie.

    Returns:
        Positions, int64 (n, K) per group: row i lists all that moves with neuron i, in the same order in every row.

    Raises:
        LayoutError: if a group moves two axes of one tensor; no network of a chain does that.

    >>> from torch import nn
    >>> neuron_positions(Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))))
    {'0': tensor([[0, 2, 4],
            [1, 3, 5]])}
    """
    tensors = layout.unflatten(torch.arange(layout.size))
    positions = {}
    for group, neurons in layout.group_sizes.items():
        for spec in layout.tensors:
            if spec.groups.count(group) > 1:
                raise LayoutError(f"a group must move one axis of a tensor, got {group} on two axes of {spec.name}")
        blocks = [
            tensors[spec.name].movedim(axis, 0).reshape(neurons, -1)
            for spec in layout.tensors
            for axis, moved in enumerate(spec.groups)
            if moved == group
        ]
        positions[group] = torch.cat(blocks, dim=1)
    return positions


def permute(weights: Tensor, positions: Tensor, orders: Tensor) -> Tensor:
    """Reorder the neurons of one group, every network in its own order.

    Args:
        weights: weight vectors, or anything of that length, (B, D).
        positions: where the group's neurons lie, (n, K), from `neuron_positions`.
        orders: neuron i becomes what neuron `orders[b, i]` was, int64 (B, n).

    Returns:
        A new tensor (B, D).

    >>> permute(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0], [1]]), torch.tensor([[1, 0]]))
    tensor([[2., 1., 3.]])
    """
    blocks = weights[:, positions]  # (B, n, K)
    permuted = weights.clone()
    permuted[:, positions] = blocks.gather(1, orders[:, :, None].expand_as(blocks))
    return permuted


class PermutationAugmentation:
    """Give every network of a batch a random order of its hidden neurons; what it computes stays the same.

    `count` permutations are drawn once and kept as gather indices, so that a view costs one gather. Two views of a
    batch are two calls. Every hidden layer of the layout is permuted. For 25,000 permutations of 2,464 weights the
    indices take 246 MB.

    Args:
        layout: the networks' layout; one without permutation groups gives views equal to their input.
        count: how many permutations to draw, each uniform and independent.
        generator: the only source of randomness, on the CPU.
        device: where the indices are kept; it must be the device of the weights.

    Raises:
        ArgumentError: if `count` is below 1.

    Source: Schürholt et al. 2021, arXiv:2110.15288, with 25,000 permutations, and 2022, arXiv:2209.14733.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> views = PermutationAugmentation(layout, 10, torch.Generator().manual_seed(1))
    >>> views(torch.arange(7.0).expand(2, 7), torch.Generator().manual_seed(1))
    tensor([[1., 0., 3., 2., 5., 4., 6.],
            [1., 0., 3., 2., 5., 4., 6.]])
    """

    def __init__(
        self, layout: Layout, count: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> None:
        if count < 1:
            raise ArgumentError(f"count must be >= 1, got {count}")
        positions = neuron_positions(layout)
        # int32 halves the memory; torch gathers by int64, so the drawn rows are widened when they are used.
        self.index = torch.empty(count, layout.size, dtype=torch.int32)
        for start in range(0, count, CHUNK):
            rows = self.index[start : start + CHUNK]
            rows.copy_(_random_indices(len(rows), layout.size, positions, generator))
        self.index = self.index.to(device)

    def __call__(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Permute each row of `weights` (B, D) by one of the permutations, drawn with replacement.

        Args:
            weights: weight vectors (B, D); not modified.
            generator: decides which permutation each row gets, on the CPU.

        Returns:
            The permuted networks (B, D).

        Raises:
            ArgumentError: if `weights` has another shape.
        """
        if weights.ndim != 2 or weights.shape[1] != self.index.shape[1]:
            raise ArgumentError(f"weights must have shape (B, {self.index.shape[1]}), got {tuple(weights.shape)}")
        rows = torch.randint(len(self.index), (len(weights),), generator=generator)
        return weights.gather(1, self.index[rows.to(self.index.device)].long())


def erase(  # noqa: PLR0913 - four numbers describe the blocks, and each has the source's value
    weights: Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    low: float = 0.02,
    high: float = 0.33,
    value: float = 0.0,
) -> Tensor:
    """Overwrite one contiguous block of some of the weight vectors.

    Args:
        weights: weight vectors (B, D); not modified.
        generator: the only source of randomness, on the CPU.
        probability: chance of each row to lose a block.
        low: smallest length of a block, as a share of D.
        high: largest length of a block, as a share of D; lengths are uniform between the two, then rounded.
        value: what is written, in weight units.

    Returns:
        A new tensor (B, D).

    Raises:
        ArgumentError: if `weights` is not 2-D, or not 0 <= probability <= 1, or not 0 <= low <= high <= 1.

    Source:
        Zhong et al. 2017, arXiv:1708.04896, for images; the values are those of Schürholt et al. 2021,
        arXiv:2110.15288.

    >>> erase(torch.ones(1, 6), torch.Generator().manual_seed(0), probability=1.0, low=0.5, high=0.5)
    tensor([[1., 0., 0., 0., 1., 1.]])
    """
    if weights.ndim != 2:
        raise ArgumentError(f"weights must have shape (B, D), got {tuple(weights.shape)}")
    if not 0 <= probability <= 1:
        raise ArgumentError(f"probability must be in [0, 1], got {probability}")
    if not 0 <= low <= high <= 1:
        raise ArgumentError(f"low and high must satisfy 0 <= low <= high <= 1, got {low} and {high}")
    count, size = weights.shape
    # float64: in float32 a draw just below 1 could round up to a start where the block no longer fits.
    chosen, extent, place = torch.rand(3, count, 1, dtype=torch.float64, generator=generator)
    length = ((low + (high - low) * extent) * size).round()
    start = (place * (size - length + 1)).floor()
    column = torch.arange(size)
    mask = (chosen < probability) & (column >= start) & (column < start + length)  # (B, D)
    return weights.masked_fill(mask.to(weights.device), value)


def _random_indices(count: int, size: int, positions: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Draw `count` independent permutations of every group's neurons, as gather indices (count, D)."""
    indices = torch.arange(size, dtype=torch.int32).expand(count, size)
    for where in positions.values():
        orders = torch.rand(count, len(where), generator=generator).argsort(1)
        indices = permute(indices, where, orders)
    return indices
