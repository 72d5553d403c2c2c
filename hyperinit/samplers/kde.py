"""Kernel density estimates on the anchors: jointly, per dimension, and per dimension among neighbours.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.samplers.base import Anchors, SamplerOptions


class JointKDE:
    """One Gaussian KDE over whole anchors: a draw is an anchor plus Gaussian noise in every dimension.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2 ("S_KDE"), in the reading that the authors'
    released code comes nearest to: it draws whole training latents.

    >>> z = torch.zeros(4, 3)
    >>> sampler = JointKDE(SamplerOptions(bandwidth=0.0))
    >>> sampler.fit(Anchors(z, torch.zeros(4), torch.zeros(4), z))
    >>> sampler.sample(2, torch.Generator())
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth = options.bandwidth

    def fit(self, anchors: Anchors) -> None:
        """Keep the latents (N, L)."""
        self.z = anchors.z

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        rows = torch.randint(len(self.z), (count,), generator=generator)
        return _blur(self.z[rows], self.bandwidth, generator)


class MarginalKDE:
    """One KDE per latent dimension, drawn independently: the text of the paper.

    A draw mixes the coordinates of many networks, also of networks that have nothing to do with each other.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.2.
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth = options.bandwidth

    def fit(self, anchors: Anchors) -> None:
        """Keep the latents (N, L)."""
        self.z = anchors.z

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        rows = torch.randint(len(self.z), (count, self.z.shape[1]), generator=generator)
        return _blur(self.z.gather(0, rows), self.bandwidth, generator)


class LocalKDE:
    """The product of marginals among an anchor's nearest anchors.

    A draw takes every coordinate from one of an anchor's neighbours (itself included): it is new in every
    dimension, like `MarginalKDE`, but stays where the zoo's networks lie. An anchor farther away than twice the
    median distance between nearest neighbours is no neighbour: mixing basins gives networks at chance.
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth, self.neighbours = options.bandwidth, options.neighbours

    def fit(self, anchors: Anchors) -> None:
        """Keep the latents (N, L) and find the neighbours of each."""
        self.z = anchors.z
        self.near = nearest(anchors.z, self.neighbours, reach=2.0)

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        near = self.near[torch.randint(len(self.z), (count,), generator=generator)]  # (count, k)
        picks = torch.randint(near.shape[1], (count, self.z.shape[1]), generator=generator)
        return _blur(self.z.gather(0, near.gather(1, picks)), self.bandwidth, generator)


def nearest(points: Tensor, count: int, *, reach: float = float("inf")) -> Tensor:
    """Rows of the `count` nearest points of each point, itself first.

    Args:
        points: (N, L).
        count: neighbours of each point, itself included.
        reach: in units of the median distance to the nearest other point; what lies farther away is replaced by
            the point itself.

    Returns:
        int64 (N, at most `count`).

    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 2)
    tensor([[0, 1],
            [1, 0],
            [2, 1]])
    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 2, reach=2.0)
    tensor([[0, 1],
            [1, 0],
            [2, 2]])
    """
    distances = torch.cdist(points, points).fill_diagonal_(-1)
    found = distances.topk(min(count, len(points)), largest=False)
    if found.indices.shape[1] < 2:
        return found.indices
    far = found.values > reach * found.values[:, 1].median()
    return torch.where(far, found.indices[:, :1], found.indices)


def _blur(z: Tensor, bandwidth: float, generator: torch.Generator | None) -> Tensor:
    return z + bandwidth * torch.randn(z.shape, generator=generator)
