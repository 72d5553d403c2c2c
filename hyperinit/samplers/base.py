"""What a sampler is: fitted to anchors, it draws new latents (or, for the baselines, weights).

Letters: N anchors, L latent size, D weights per network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError, shown


@dataclass(frozen=True)
class Anchors:
    """The latents of a zoo's training snapshots.

    Args:
        z: latents (N, L).
        score: validation accuracy, 0 to 1, (N,).
        epoch: epochs of training, (N,).
        weights: the snapshots themselves, aligned, (N, D).
    """

    z: Tensor
    score: Tensor
    epoch: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        """Check that all four speak of the same snapshots."""
        count = len(self.z)
        if self.z.ndim != 2 or self.weights.ndim != 2 or not count:
            raise ArgumentError(
                f"anchors need z (N, L) and weights (N, D), got {tuple(self.z.shape)} and {tuple(self.weights.shape)}"
            )
        if not self.score.shape == self.epoch.shape == (count,) or len(self.weights) != count:
            raise ArgumentError(f"anchors need one score, epoch and weight vector for each of the {count} latents")

    def __len__(self) -> int:
        """Return N."""
        return len(self.z)

    def best(self, share: float = 0.3) -> Anchors:
        """Return the best-scored share of the anchors: the "30" of the methods (paper, section 3.2).

        >>> z = torch.zeros(10, 2)
        >>> len(Anchors(z, torch.arange(10.0), torch.zeros(10), z).best())
        3
        """
        rows = self.score.argsort(descending=True, stable=True)[: max(1, round(share * len(self)))]
        return Anchors(self.z[rows], self.score[rows], self.epoch[rows], self.weights[rows])


@dataclass(frozen=True)
class SamplerOptions:
    """Numbers that belong to an artifact and that its samplers share.

    Args:
        bandwidth: standard deviation of the Gaussian kernels, in latent units.
        neighbours: how many nearest anchors (itself included) a `local` draw or an `average` mixes.
        noise: standard deviation of the `noise` baseline, in units of each weight's spread over the zoo.
    """

    bandwidth: float = 0.05
    neighbours: int = 8
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Check the values, so that a bad file is refused when it is read."""
        numbers = (self.bandwidth, self.noise)
        if not all(type(n) in (int, float) and 0 <= n < 1e6 for n in numbers):
            raise ArgumentError(f"bandwidth and noise must be numbers from 0 to a million, got {shown(numbers)}")
        if type(self.neighbours) is not int or self.neighbours < 1:
            raise ArgumentError(f"neighbours must be an integer of at least 1, got {shown(self.neighbours)}")


class Sampler(Protocol):
    """One way to draw networks. `space` says what `sample` returns: "latent" (count, L) or "weight" (count, D)."""

    space: ClassVar[str]

    def __init__(self, options: SamplerOptions) -> None:
        """Take what the artifact states; most samplers use a part of it."""

    def fit(self, anchors: Anchors) -> None:
        """Learn from the anchors; called once."""

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw `count` rows; None is torch's global generator."""


class TrainedSampler(Sampler, Protocol):
    """A sampler whose `fit` takes long: it runs when a hyper-representation is made; artifacts keep its state."""

    @staticmethod
    def shapes(latent: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors of `state`, for latents of size L; an artifact must hold exactly these."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what `fit` learned."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned, instead of `fit`."""
