"""Draws from kernel density estimates of the anchors: joint, per dimension, and per dimension among neighbours.

All kernels are Gaussian, and their standard deviation is the bandwidth of the artifact, the same in every dimension.
A draw is therefore a choice of anchor coordinates plus Gaussian noise.

Letters: N anchors, L latent size, k neighbours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.samplers.base import Anchors, SamplerOptions

BLOCK = 2048  # points whose distances to all others are computed at once


class JointKDE:
    """One KDE over whole anchors. A draw is an anchor plus Gaussian noise in every dimension.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2 ("S_KDE"), in the reading closest to the
    authors' released code, which draws whole training latents. The text of the paper differs, see `MarginalKDE`.

    >>> z = torch.zeros(4, 3)
    >>> sampler = JointKDE(SamplerOptions(bandwidth=0.0))
    >>> sampler.fit(Anchors(z, torch.zeros(4), torch.zeros(4), z))
    >>> sampler.sample(2, torch.Generator())
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """

    space: ClassVar[str] = "latent"
    starts: ClassVar[bool] = True

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth = options.bandwidth

    def fit(self, anchors: Anchors) -> None:
        """Store the latents (N, L)."""
        self.z = anchors.z

    def sample(self, count: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
        """Draw latents (count, L), from the anchors `rows`, (count,), or from random ones."""
        rows = starting(len(self.z), count, generator, rows)  # one anchor per draw
        return _blur(self.z[rows], self.bandwidth, generator)


class MarginalKDE:
    """One KDE per latent dimension, drawn independently, as the text of the paper says.

    A draw mixes the coordinates of many networks, including unrelated ones.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.2.
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth = options.bandwidth

    def fit(self, anchors: Anchors) -> None:
        """Store the latents (N, L)."""
        self.z = anchors.z

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        rows = torch.randint(len(self.z), (count, self.z.shape[1]), generator=generator)  # one anchor per coordinate
        return _blur(self.z.gather(0, rows), self.bandwidth, generator)


class LocalKDE:
    """One KDE per latent dimension, over the nearest neighbours of one anchor.

    A draw picks an anchor at random and takes each coordinate from one of its neighbours, itself included. Like a draw
    of `MarginalKDE` it differs from every anchor, but it stays near the zoo's networks. Anchors farther away than twice
    the median distance between nearest neighbours do not count as neighbours, because mixing networks from different
    basins gives networks at chance.
    """

    space: ClassVar[str] = "latent"
    starts: ClassVar[bool] = True

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth, self.neighbours = options.bandwidth, options.neighbours

    def fit(self, anchors: Anchors) -> None:
        """Store the latents (N, L) and find the neighbours of each, (N, k)."""
        self.z = anchors.z
        self.near = nearest(anchors.z, self.neighbours, reach=2.0)

    def sample(self, count: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
        """Draw latents (count, L), near the anchors `rows`, (count,), or near random ones."""
        near = self.near[starting(len(self.z), count, generator, rows)]  # (count, k)
        picks = torch.randint(near.shape[1], (count, self.z.shape[1]), generator=generator)  # (count, L), in 0..k-1
        mixed = near.gather(1, picks)  # one neighbour per coordinate, (count, L)
        return _blur(self.z.gather(0, mixed), self.bandwidth, generator)


def starting(anchors: int, count: int, generator: torch.Generator | None, rows: Tensor | None) -> Tensor:
    """Return the anchor at which each draw begins: the given rows (count,), or random ones.

    >>> starting(5, 2, None, torch.tensor([4, 4]))
    tensor([4, 4])
    """
    return torch.randint(anchors, (count,), generator=generator) if rows is None else rows


def nearest(points: Tensor, count: int, *, reach: float = float("inf")) -> Tensor:
    """Find the `count` nearest points of each point, itself first.

    Args:
        points: (N, L).
        count: neighbours of each point, itself included.
        reach: largest distance of a neighbour, in units of the median distance to the nearest other point. A point
            farther away is replaced by the point itself.

    Returns:
        Row numbers, int64 (N, min(`count`, N)).

    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 2)
    tensor([[0, 1],
            [1, 0],
            [2, 1]])
    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 2, reach=2.0)
    tensor([[0, 1],
            [1, 0],
            [2, 2]])
    """
    values, indices = [], []
    for start in range(0, len(points), BLOCK):  # all distances at once would take memory for N^2 numbers
        distances = torch.cdist(points[start : start + BLOCK], points)  # (BLOCK, N)
        distances.diagonal(start).fill_(-1)  # each point comes before its exact copies
        found = distances.topk(min(count, len(points)), largest=False)
        values.append(found.values)
        indices.append(found.indices)
    near, rows = torch.cat(values), torch.cat(indices)
    if rows.shape[1] < 2:
        return rows
    far = near > reach * near[:, 1].median()  # column 1 is the nearest other point
    return torch.where(far, rows[:, :1], rows)


def _blur(z: Tensor, bandwidth: float, generator: torch.Generator | None) -> Tensor:
    return z + bandwidth * torch.randn(z.shape, generator=generator)
