"""Augmentations of weight vectors: permuted or flipped neurons, which keep the function, and erased blocks.

Letters: B networks in a batch, D weights per network, n neurons of a permutation group, K weights that move with
one neuron (its incoming weights, its bias and the next layer's weights that read it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit_training.symmetry.positions import Groups, neuron_positions, permute
from hyperinit_training.train_autoencoder import augment

SHORT = 1 << 15  # weights that an int16 can count
CHUNK = 1024  # permutations that are built at once, so that building needs little more memory than the result


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
        if augment.takes(weights):
            permuted = augment.gathered(weights, self.index, rows)
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
    if augment.takes(weights):
        augment.fill_(weights, start[:, 0].long(), stop[:, 0].long(), value)
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


def takes(weights: Tensor) -> bool:
    """Say whether weights are what the loops are for: float32 on the CPU, whose gradient nobody wants.

    >>> takes(torch.zeros(1)), takes(torch.zeros(1, dtype=torch.float64)), takes(torch.zeros(1, requires_grad=True))
    (True, False, False)
    """
    return weights.device.type == "cpu" and weights.dtype == torch.float32 and not weights.requires_grad


def gathered(weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Return `weights.gather(1, index[rows].long())`, which is not written down.

    Args:
        weights: float32 (B, D), on the CPU.
        index: places in a row, each from 0 to D - 1: they are not checked. int16 or int32 (P, D).
        rows: a row of the index for each row of the weights, from 0 to P - 1, int64 (B,).

    >>> gathered(torch.tensor([[1.0, 2.0]]), torch.tensor([[0, 1], [1, 0]], dtype=torch.int16), torch.tensor([1]))
    tensor([[2., 1.]])
    """
    found = torch.empty_like(weights, memory_format=torch.contiguous_format)
    _loops()[0](weights.numpy(), index.numpy(), rows.numpy(), found.numpy())
    return found


def fill_(weights: Tensor, start: Tensor, stop: Tensor, value: float) -> None:
    """Write a value from `start` to before `stop`, int64 (B,) and within the row, into each row of weights (B, D).

    A mask of all weights would be made, read and forgotten.

    >>> weights = torch.ones(2, 3)
    >>> fill_(weights, torch.tensor([0, 1]), torch.tensor([2, 1]), 0.0)
    >>> weights
    tensor([[0., 0., 1.],
            [1., 1., 1.]])
    """
    _loops()[1](weights.numpy(), start.numpy(), stop.numpy(), value)


@lru_cache(maxsize=1)
def _loops() -> tuple[Any, Any]:
    """The loops, compiled at their first use: numba takes a second to import, and not all that trains needs it."""
    import numba

    @numba.njit(nogil=True, error_model="numpy")
    def gather(weights, index, rows, found):  # type: ignore[no-untyped-def]
        for b in range(len(rows)):
            source, places, target = weights[b], index[rows[b]], found[b]
            for i in range(len(target)):
                target[i] = source[places[i]]

    @numba.njit(nogil=True, error_model="numpy")
    def fill(weights, start, stop, value):  # type: ignore[no-untyped-def]
        for b in range(len(start)):
            weights[b, start[b] : stop[b]] = value

    return gather, fill
