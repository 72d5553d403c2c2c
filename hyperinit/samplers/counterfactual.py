"""Latents of low density: the paper's sanity check of the KDE.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.samplers.base import Anchors, SamplerOptions

CANDIDATES = 10  # per draw
CHUNK = 4096  # candidates compared at once, which bounds the distance matrix to CHUNK x N
NARROWEST = 1e-4  # smallest bandwidth: below it only the nearest anchor matters, and 0 would divide by zero


class Counterfactual:
    """Draw ten uniform latents and keep the one that is least probable under the joint KDE over the anchors.

    The paper does not specify the rule. Here each draw takes ten candidates c, uniform in the cube (-1, 1)^L, and keeps
    the one of lowest log density, log sum_i exp(-|c - z_i|^2 / 2 h^2) up to a constant. The z_i are the anchors, and
    h is the bandwidth of the artifact.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.2 ("S_C": "low probability according to the KDE").

    >>> sampler = Counterfactual(SamplerOptions())
    >>> sampler.fit(Anchors(torch.full((1, 1), 1.0), torch.ones(1), torch.ones(1), torch.ones(1, 1)))
    >>> bool((sampler.sample(100, torch.Generator()) < 0.5).all())  # all but 2e-6 of them, on average
    True
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        self.bandwidth = max(options.bandwidth, NARROWEST)

    def fit(self, anchors: Anchors) -> None:
        """Store the latents (N, L)."""
        self.z = anchors.z

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        latent = self.z.shape[1]
        drawn = []
        for part in torch.arange(count).split(max(1, CHUNK // CANDIDATES)):
            candidates = 2 * torch.rand(len(part), CANDIDATES, latent, generator=generator) - 1  # (part, 10, L)
            density = log_density(candidates.view(-1, latent), self.z, self.bandwidth)  # (len(part) * 10,)
            lowest = density.view(-1, CANDIDATES).argmin(1)  # (len(part),)
            drawn.append(candidates[torch.arange(len(part)), lowest])  # (len(part), L)
        return torch.cat(drawn)


def log_density(points: Tensor, anchors: Tensor, bandwidth: float) -> Tensor:
    """Return the log density of a joint Gaussian KDE at points (P, L) over anchors (N, L), up to a constant; (P,).

    The sum is taken in log space, because far from all anchors the density underflows in float32.

    >>> log_density(torch.tensor([[1.0], [900.0]]), torch.tensor([[0.0]]), 0.5)
    tensor([-2.0000e+00, -1.6200e+06])
    """
    return torch.logsumexp(-(torch.cdist(points, anchors) ** 2) / (2 * bandwidth**2), dim=1)
