"""Baselines for the other samplers: uniform latents, snapshots with noise, and means of neighbouring snapshots.

Letters: N anchors, L latent size, D weights per network.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.samplers.base import Anchors, SamplerOptions
from hyperinit.samplers.kde import nearest, starting

MOST_GATHERED = 1 << 24  # numbers that `average` gathers at once, to bound memory


class Uniform:
    """Draw uniform latents from the cube (-1, 1)^L. The anchors have no influence.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2 ("S_U").
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        pass

    def fit(self, anchors: Anchors) -> None:
        """Store the latent size L."""
        self.latent = anchors.z.shape[1]

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        return 2 * torch.rand(count, self.latent, generator=generator) - 1


class Noise:
    """Draw a training snapshot and add Gaussian noise to its weights, without an autoencoder.

    The standard deviation of the noise is `options.noise` times that of each weight over the zoo.
    """

    space: ClassVar[str] = "weight"
    starts: ClassVar[bool] = True

    def __init__(self, options: SamplerOptions) -> None:
        self.noise = options.noise

    def fit(self, anchors: Anchors) -> None:
        """Store the snapshots (N, D) and the standard deviation of each weight (D,)."""
        self.weights = anchors.weights
        self.spread = anchors.weights.std(0, correction=0)

    def sample(self, count: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
        """Draw weights (count, D), from the anchors `rows`, (count,), or from random ones."""
        rows = starting(len(self.weights), count, generator, rows)
        noise = torch.randn(count, self.weights.shape[1], generator=generator)
        return self.weights[rows] + self.noise * self.spread * noise  # (count, D) + (D,) * (count, D)


class Average:
    """Average a training snapshot and its nearest neighbours in weight space, without an autoencoder.

    The mean of the whole zoo mixes networks from different basins and performs at chance. The mean of neighbours is
    comparable to a "model soup" of fine-tuned checkpoints and is a strong baseline.
    """

    space: ClassVar[str] = "weight"
    starts: ClassVar[bool] = True

    def __init__(self, options: SamplerOptions) -> None:
        self.neighbours = options.neighbours

    def fit(self, anchors: Anchors) -> None:
        """Store the snapshots (N, D) and find the nearest neighbours of each, itself included, (N, k)."""
        self.weights = anchors.weights
        self.near = nearest(anchors.weights, self.neighbours)

    def sample(self, count: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
        """Draw weights (count, D), from the anchors `rows`, (count,), or from random ones."""
        rows = starting(len(self.weights), count, generator, rows)
        part = max(1, MOST_GATHERED // (self.near.shape[1] * self.weights.shape[1]))
        return torch.cat(
            [self.weights[self.near[few]].mean(1) for few in rows.split(part)]
        )  # (part, k, D) -> (part, D)
