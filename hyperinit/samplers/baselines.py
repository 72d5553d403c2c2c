"""What a sampler has to beat: chance in the latent space, and two cheap ways to make weights out of snapshots.

Letters: N anchors, L latent size, D weights per network.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.samplers.base import Anchors, SamplerOptions
from hyperinit.samplers.kde import nearest


class Uniform:
    """Uniform in the cube (-1, 1)^L, blind to the anchors.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2 ("S_U").
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        pass

    def fit(self, anchors: Anchors) -> None:
        """Keep nothing but L."""
        self.latent = anchors.z.shape[1]

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        return 2 * torch.rand(count, self.latent, generator=generator) - 1


class Noise:
    """A training snapshot plus Gaussian noise on its weights; no autoencoder is involved.

    The noise is `options.noise` times each weight's standard deviation over the zoo.
    """

    space: ClassVar[str] = "weight"

    def __init__(self, options: SamplerOptions) -> None:
        self.noise = options.noise

    def fit(self, anchors: Anchors) -> None:
        """Keep the snapshots (N, D) and their spread (D,)."""
        self.weights = anchors.weights
        self.spread = anchors.weights.std(0, correction=0)

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw weights (count, D)."""
        rows = torch.randint(len(self.weights), (count,), generator=generator)
        noise = torch.randn(count, self.weights.shape[1], generator=generator)
        return self.weights[rows] + self.noise * self.spread * noise


class Average:
    """The mean of a training snapshot and its nearest neighbours in weight space; no autoencoder is involved.

    Averaging over the whole zoo would mix networks from different basins and give chance; among neighbours it is
    the "soup" that people make of fine-tuned checkpoints, and hard to beat.
    """

    space: ClassVar[str] = "weight"

    def __init__(self, options: SamplerOptions) -> None:
        self.neighbours = options.neighbours

    def fit(self, anchors: Anchors) -> None:
        """Keep the snapshots (N, D) and find the neighbours of each."""
        self.weights = anchors.weights
        self.near = nearest(anchors.weights, self.neighbours)

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw weights (count, D)."""
        rows = torch.randint(len(self.weights), (count,), generator=generator)
        return self.weights[self.near[rows]].mean(1)
