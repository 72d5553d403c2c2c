"""Augment weight vectors: permute neurons and flip their signs, which keep the function, and erase blocks.

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

SHORT = 1 << 15  # weights per network up to which int16 can index them
CHUNK = 1024  # permutations built at once: int64 intermediates of all of them would need several times the memory


class PermutationAugmentation:
    """Permute the hidden neurons of every network of a batch at random. The networks keep their functions.

    `count` permutations are drawn once and stored as gather indices, so a view costs one gather. Call the
    augmentation twice for two views of a batch. Every hidden layer of the layout is permuted. The indices of 25,000
    permutations of 2,464 weights take 123 MB, and signs take another 62 MB. An index takes two bytes up to 32,768
    weights per network, and four bytes above.

    Args:
        layout: layout of the networks. Without permutation groups, a view equals its input.
        count: number of permutations to draw, each uniform and independent.
        generator: source of all randomness, on the CPU.
        device: device of the indices. It must be the device of the weights.
        signs: groups of neurons whose signs are flipped with probability 1/2, the `groups` of
            `hyperinit_training.symmetry.sign_groups`. None flips no signs.

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
        """Permute each row by one of the permutations, drawn with replacement, then flip signs.

        Args:
            weights: weight vectors (B, D), not modified.
            generator: source of the draws, on the CPU.

        Returns:
            The permuted networks (B, D).

        Raises:
            ArgumentError: if `weights` has another shape.
        """
        if weights.ndim != 2 or weights.shape[1] != self.index.shape[1]:
            raise ArgumentError(f"weights must have shape (B, {self.index.shape[1]}), got {tuple(weights.shape)}")
        rows = torch.randint(len(self.index), (len(weights),), generator=generator).to(self.index.device)
        if takes_loops(weights):
            permuted = gathered(weights, self.index, rows)
        else:
            permuted = weights.gather(1, self.index[rows].long())  # (B, D); gather needs int64 indices
        return permuted if self.signs is None else permuted * self.signs[rows]


def erase(  # noqa: PLR0913 - four numbers describe the blocks
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
        weights: weight vectors (B, D), not modified.
        generator: source of all randomness, on the CPU.
        probability: probability that a block of a row is overwritten.
        low: smallest length of a block, as a share of D.
        high: largest length of a block, as a share of D. Lengths are uniform in [low, high] * D, then rounded.
        value: value to write, in weight units.

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
    """Overwrite blocks like `erase`, but in place, and return `weights`. It saves a copy of fresh views.

    Raises:
        ArgumentError: as `erase`.

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
    # float64: in float32, a draw just below 1 could round up to a start from which the block does not fit.
    chosen, extent, place = torch.rand(3, count, 1, dtype=torch.float64, generator=generator)  # each (B, 1)
    length = ((low + (high - low) * extent) * size).round()
    start = (place * (size - length + 1)).floor()  # uniform over 0 ... D - length
    stop = torch.where(chosen < probability, start + length, start)  # an empty block leaves the row as it is
    if takes_loops(weights):
        fill_(weights, start[:, 0].long(), stop[:, 0].long(), value)
        return weights
    column = torch.arange(size)
    inside = (column >= start) & (column < stop)  # (B, D)
    return weights.masked_fill_(inside.to(weights.device), value)


def takes_loops(weights: Tensor) -> bool:
    """Return True if the compiled loops can process the weights: float32, on the CPU, without a gradient.

    >>> takes_loops(torch.zeros(1)), takes_loops(torch.zeros(1, dtype=torch.float64))
    (True, False)
    """
    return weights.device.type == "cpu" and weights.dtype == torch.float32 and not weights.requires_grad


def gathered(weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Return `weights.gather(1, index[rows].long())` without allocating the int64 indices (B, D).

    Args:
        weights: float32 (B, D), on the CPU, not modified.
        index: columns to read, int16 or int32 (P, D). Values must lie in 0 to D - 1, which is not checked.
        rows: row of `index` for each row of `weights`, int64 (B,). Values must lie in 0 to P - 1.

    Returns:
        A new contiguous tensor (B, D).

    >>> gathered(torch.tensor([[1.0, 2.0]]), torch.tensor([[0, 1], [1, 0]], dtype=torch.int16), torch.tensor([1]))
    tensor([[2., 1.]])
    """
    found = torch.empty_like(weights, memory_format=torch.contiguous_format)
    _loops()[0](weights.numpy(), index.numpy(), rows.numpy(), found.numpy())
    return found


def fill_(weights: Tensor, start: Tensor, stop: Tensor, value: float) -> None:
    """Write a value in place at columns `start` to `stop` - 1 of each row, without allocating a mask (B, D).

    Args:
        weights: float32 (B, D), on the CPU.
        start: first column of each row, int64 (B,), 0 to D.
        stop: column after the last of each row, int64 (B,), `start` to D. It is not checked.
        value: value to write.

    >>> weights = torch.ones(2, 3)
    >>> fill_(weights, torch.tensor([0, 1]), torch.tensor([2, 1]), 0.0)
    >>> weights
    tensor([[0., 0., 1.],
            [1., 1., 1.]])
    """
    _loops()[1](weights.numpy(), start.numpy(), stop.numpy(), value)


def _random_indices(
    count: int, size: int, positions: Mapping[str, Sequence[Tensor]], generator: torch.Generator
) -> Tensor:
    """Draw `count` independent permutations of the neurons of every group, as gather indices (count, D)."""
    indices = torch.arange(size, dtype=torch.int32).expand(count, size)
    for where in positions.values():
        orders = torch.rand(count, len(where[0]), generator=generator).argsort(1)  # (count, n), uniform
        indices = permute(indices, where, orders)
    return indices


def _random_signs(count: int, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw a sign for every neuron of every group. Return the factor of every weight, int8 (count, D)."""
    signs = torch.ones(count, layout.size, dtype=torch.int8)
    for tables in neuron_positions(layout).values():
        drawn = 1 - 2 * torch.randint(2, (count, len(tables[0]), 1), generator=generator, dtype=torch.int8)
        for where in tables:  # (n, K); a weight between two neurons gets the product of their signs
            signs[:, where] *= drawn
    return signs


@lru_cache(maxsize=1)
def _loops() -> tuple[Any, Any]:
    """Compile the loops at their first use, because numba takes a second to import."""
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
