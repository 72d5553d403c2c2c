"""Find the families of a zoo: networks that were fine-tuned or branched from one ancestor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperinit_training.checkpoints.read import Checkpoints

CHUNK = 1 << 22  # number of float64 values to convert at a time: 32 MB
ROUNDING = 1e-13  # squared distances below this share of the squared lengths are rounding errors of equal networks
GAP = 1.3  # least ratio of the distances between and within families


def distances(checkpoints: Checkpoints) -> Tensor:
    """Return the Euclidean distances between the networks' parameters, without buffers, float64 (N, N).

    The computation converts chunks of columns to float64, so it makes no second copy of the zoo.
    """
    count = len(checkpoints)
    products = torch.zeros(count, count, dtype=torch.float64)  # sums of x_i . x_j over the columns so far
    for part in _parameters(checkpoints):
        for chunk in part.split(max(1, CHUNK // count), dim=1):  # (N, CHUNK / N)
            # Distances do not depend on the origin. Subtracting one network removes what all networks share, so the
            # difference of squares below loses fewer digits.
            centred = chunk.double() - chunk[0].double()
            products += centred @ centred.T
    own = products.diagonal()  # |x_i|^2, (N,)
    both = own[:, None] + own  # |x_i|^2 + |x_j|^2, (N, N)
    squares = both - products - products.T  # |x_i - x_j|^2; the sum of both halves is exactly symmetric
    return torch.where(squares > ROUNDING * both, squares, 0).sqrt()


def _parameters(checkpoints: Checkpoints) -> Iterator[Tensor]:
    """Yield the columns of each parameter tensor, (N, size)."""
    slices = checkpoints.layout.slices
    return (checkpoints.weights[:, slices[t.name]] for t in checkpoints.layout.tensors if t.size and not t.buffer)


def spread(checkpoints: Checkpoints) -> float:
    """Return the root mean square length of the networks after each tensor's own mean is subtracted.

    Independent networks are about sqrt(2) spreads apart. The mean of a tensor is subtracted, because it depends on the
    initialization scheme and not on the ancestor.
    """
    squares = [part.var(dim=1, correction=0).double().mean() * part.shape[1] for part in _parameters(checkpoints)]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@dataclass(frozen=True)
class Families:
    """A partition of networks into families.

    Args:
        labels: family of each network, int64 (N,). Family 0 is the largest.
        cut: mean distance below which groups were joined.
        gap: the last join below `cut` and the first join above it, as mean distances; None if no gap was found.
    """

    labels: Tensor
    cut: float
    gap: tuple[float, float] | None

    @property
    def sizes(self) -> list[int]:
        """Number of networks in each family, in descending order."""
        return self.labels.bincount().tolist()


def families(matrix: Tensor, unit: float) -> Families:
    """Find families by average-linkage clustering, cut at the widest gap between the distances of joins.

    The distances above and below the gap must differ by a factor of at least 1.3. At least a quarter of the joins must
    lie below the gap, so that a few copies in a zoo do not count as its families. Without such a gap the cut is `unit`:
    one family becomes one group, and networks from different seeds stay apart.

    Args:
        matrix: distances, (N, N), N >= 2.
        unit: cut where no gap is found, from `spread`.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(matrix.numpy(), checks=False), "average")
    heights = torch.from_numpy(tree[:, 2].copy())  # distance of each join, ascending, (N - 1,)
    below, above = heights[:-1], heights[1:]
    joined = torch.arange(1, len(heights))  # number of joins below each gap, (N - 2,)
    allowed = (above > GAP * below) & (joined >= (len(heights) + 1) / 4)
    gap, cut = None, unit
    if allowed.any():
        place = torch.where(allowed, above - below, 0).argmax()
        gap = (float(below[place]), float(above[place]))
        cut = sum(gap) / 2
    found = fcluster(tree, cut, "distance").tolist()
    counts = Counter(found)
    order = sorted(
        counts, key=lambda family: -counts[family]
    )  # stable: families of equal size keep the order of their first networks
    return Families(torch.tensor([order.index(family) for family in found]), cut, gap)
