"""Families of a zoo: networks that branched from one ancestor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperinit_training.checkpoints.read import Checkpoints

CHUNK = 1 << 22  # values in float64 at a time: 32 MB
ROUNDING = 1e-13  # squared distances below this share of the squared lengths are rounding: the networks are equal
GAP = 1.3  # how much longer the distances between families must at least be than those within


def distances(checkpoints: Checkpoints) -> Tensor:
    """Euclidean distances between the networks' parameters, without buffers; float64 (N, N).

    Columns are taken in chunks, so that no second copy of the zoo is made.
    """
    count = len(checkpoints)
    products = torch.zeros(count, count, dtype=torch.float64)
    for part in _parameters(checkpoints):
        for chunk in part.split(max(1, CHUNK // count), dim=1):
            centred = chunk.double() - chunk[0].double()  # what all have in common would cost digits below
            products += centred @ centred.T
    own = products.diagonal()
    both = own[:, None] + own
    squares = both - products - products.T
    return torch.where(squares > ROUNDING * both, squares, 0).sqrt()


def _parameters(checkpoints: Checkpoints) -> Iterator[Tensor]:
    """Columns of each parameter, (N, size)."""
    slices = checkpoints.layout.slices
    return (checkpoints.weights[:, slices[t.name]] for t in checkpoints.layout.tensors if t.size and not t.buffer)


def spread(checkpoints: Checkpoints) -> float:
    """Root mean square length of a network whose tensors are each centred by their own mean.

    Independent networks are sqrt(2) spreads apart; a network's mean scale and shift say nothing of its origin.
    """
    squares = [part.var(dim=1, correction=0).double().mean() * part.shape[1] for part in _parameters(checkpoints)]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@dataclass(frozen=True)
class Families:
    """Groups of networks that lie nearer to each other than to the rest.

    Args:
        labels: number of each network's family, int64 (N,); from the largest on.
        cut: distance below which networks are joined.
        gap: the distances below and above `cut` at which groups join, if there is a gap between them.
    """

    labels: Tensor
    cut: float
    gap: tuple[float, float] | None

    @property
    def sizes(self) -> list[int]:
        """Number of networks in each family, falling."""
        return self.labels.bincount().tolist()


def families(matrix: Tensor, unit: float) -> Families:
    """Find families by joining the nearest groups, by mean distance, up to the widest gap.

    The gap must be a factor of 1.3, and at least a quarter of the joins must lie below it, so that a few copies are no
    families. Without such a gap, networks nearer than `unit` are joined: all of one family, or none of many seeds.

    Args:
        matrix: distances, (N, N), N >= 2.
        unit: see `spread`.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(matrix.numpy(), checks=False), "average")
    heights = torch.from_numpy(tree[:, 2].copy())
    below, above = heights[:-1], heights[1:]
    joined = torch.arange(1, len(heights))  # how many joins lie below each gap
    allowed = (above > GAP * below) & (joined >= (len(heights) + 1) / 4)
    gap, cut = None, unit
    if allowed.any():
        place = torch.where(allowed, above - below, 0).argmax()
        gap = (float(below[place]), float(above[place]))
        cut = sum(gap) / 2
    found = fcluster(tree, cut, "distance").tolist()
    counts = Counter(found)
    order = sorted(counts, key=lambda family: -counts[family])  # of equal ones, the first network's comes first
    return Families(torch.tensor([order.index(family) for family in found]), cut, gap)
