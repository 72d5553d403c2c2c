"""Augmentations of weight vectors: permuted or flipped neurons, which keep the function, and erased blocks.

Letters: B networks in a batch, D weights per network, n neurons of a permutation group, K weights that move with
one neuron (its incoming weights, its bias and the next layer's weights that read it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit_training import compiled_views

Groups = Mapping[str, tuple[str | None, ...]]  # for each tensor by name, the group of each axis
SHORT = 1 << 15  # weights that an int16 can count
CHUNK = 1024  # permutations that are built at once, so that building needs little more memory than the result


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


class PermutationAugmentation:
    """Give every network of a batch a random order of its hidden neurons; what it computes stays the same.

    `count` permutations are drawn once and kept as gather indices, so that a view costs one gather. Two views of a
    batch are two calls. Every hidden layer of the layout is permuted. For 25,000 permutations of 2,464 weights the
    indices take 123 MB, and signs 62 MB more; networks of more than 32,768 weights need four bytes for each index.

    Args:
        layout: the networks' layout; one without permutation groups gives views equal to their input.
        count: how many permutations to draw, each uniform and independent.
        generator: the only source of randomness, on the CPU.
        device: where the indices are kept; it must be the device of the weights.
        signs: groups of neurons to flip at random as well, each with chance 1/2: the `groups` that
            `hyperinit_training.symmetry.sign_groups` gives. None flips nothing.

    Raises:
        ArgumentError: if `count` is below 1.
        LayoutError: if `signs` does not fit the layout.

    Source: Schürholt et al. 2021, arXiv:2110.15288, with 25,000 permutations, and 2022, arXiv:2209.14733.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> views = PermutationAugmentation(layout, 10, torch.Generator().manual_seed(1))
    >>> views(torch.arange(7.0).expand(2, 7), torch.Generator().manual_seed(1))
    tensor([[1., 0., 3., 2., 5., 4., 6.],
            [1., 0., 3., 2., 5., 4., 6.]])
    """

    def __init__(
        self,
        layout: Layout,
        count: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        signs: Groups | None = None,
    ) -> None:
        if count < 1:
            raise ArgumentError(f"count must be >= 1, got {count}")
        positions = neuron_positions(layout)
        self.index = torch.empty(count, layout.size, dtype=torch.int16 if layout.size <= SHORT else torch.int32)
        for start in range(0, count, CHUNK):
            rows = self.index[start : start + CHUNK]
            rows.copy_(_random_indices(len(rows), layout.size, positions, generator))
        self.index = self.index.to(device)
        self.signs = None if signs is None else _random_signs(count, layout.with_groups(signs), generator).to(device)

    def __call__(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Permute each row of `weights` (B, D) by one of the permutations, drawn with replacement, then flip signs.

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
        rows = torch.randint(len(self.index), (len(weights),), generator=generator).to(self.index.device)
        if compiled_views.takes(weights):
            permuted = compiled_views.gathered(weights, self.index, rows)
        else:
            permuted = weights.gather(1, self.index[rows].long())
        return permuted if self.signs is None else permuted * self.signs[rows]


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
    return erase_(weights.clone(), generator, probability=probability, low=low, high=high, value=value)


def erase_(  # noqa: PLR0913 - as `erase`
    weights: Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    low: float = 0.02,
    high: float = 0.33,
    value: float = 0.0,
) -> Tensor:
    """Do what `erase` does, in place, and return `weights`: for views that nobody else will want.

    >>> erase_(torch.ones(1, 6), torch.Generator().manual_seed(0), probability=1.0, low=0.5, high=0.5)
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
    stop = torch.where(chosen < probability, start + length, start)
    if compiled_views.takes(weights):
        compiled_views.fill_(weights, start[:, 0].long(), stop[:, 0].long(), value)
        return weights
    column = torch.arange(size)
    return weights.masked_fill_(((column >= start) & (column < stop)).to(weights.device), value)


def _random_indices(
    count: int, size: int, positions: Mapping[str, Sequence[Tensor]], generator: torch.Generator
) -> Tensor:
    """Draw `count` independent permutations of every group's neurons, as gather indices (count, D)."""
    indices = torch.arange(size, dtype=torch.int32).expand(count, size)
    for where in positions.values():
        orders = torch.rand(count, len(where[0]), generator=generator).argsort(1)
        indices = permute(indices, where, orders)
    return indices


def _random_signs(count: int, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw a sign for every neuron of every group, and write it at all weights that it changes, int8 (count, D)."""
    signs = torch.ones(count, layout.size, dtype=torch.int8)
    for tables in neuron_positions(layout).values():
        drawn = 1 - 2 * torch.randint(2, (count, len(tables[0]), 1), generator=generator, dtype=torch.int8)
        for where in tables:
            signs[:, where] *= drawn
    return signs
