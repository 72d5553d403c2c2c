"""Anchors, options, and the interface of samplers. A sampler is fitted to anchors and draws latents or weights.

Letters: N anchors, L latent size, D weights per network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError, shown
from hyperinit.samplers.families import clusters


@dataclass(frozen=True)
class Anchors:
    """The latents of a zoo's training snapshots.

    Args:
        z: latents (N, L).
        score: validation accuracy, 0 to 1, (N,).
        epoch: epochs of training, (N,).
        weights: the snapshots themselves, aligned, (N, D).
        family: number of the family of each snapshot, int64 (N,). None finds families by their weights, see
            `hyperinit.samplers.families`.
    """

    z: Tensor
    score: Tensor
    epoch: Tensor
    weights: Tensor
    family: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that all tensors have the same number of rows."""
        count = len(self.z)
        if self.z.ndim != 2 or self.weights.ndim != 2 or not count:
            raise ArgumentError(
                "z and weights must have shapes (N, L) and (N, D) with N >= 1, "
                f"got {tuple(self.z.shape)} and {tuple(self.weights.shape)}"
            )
        if not self.score.shape == self.epoch.shape == (count,) or len(self.weights) != count:
            got = [tuple(self.score.shape), tuple(self.epoch.shape), tuple(self.weights.shape)]
            raise ArgumentError(f"score, epoch and weights must have one row for each of {count} latents, got {got}")
        if self.family is not None and (self.family.shape != (count,) or self.family.dtype != torch.int64):
            got_family = f"{self.family.dtype} {tuple(self.family.shape)}"
            raise ArgumentError(f"family must be int64 with one entry for each of {count} latents, got {got_family}")

    @cached_property
    def families(self) -> Tensor:
        """Number of the family of each anchor, int64 (N,)."""
        return clusters(self.weights) if self.family is None else self.family

    def __len__(self) -> int:
        """Return N."""
        return len(self.z)

    def best(self, share: float = 0.3, *, by_family: bool = False) -> Anchors:
        """Return the share of anchors with the highest scores, at least one. Of equal scores the earlier row is kept.

        Methods whose name ends in "30" use a share of 0.3.

        Args:
            share: 0 to 1.
            by_family: whether to take this share of each family, at least one, in place of that of the whole zoo.

        Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.

        >>> z = torch.zeros(10, 2)
        >>> len(Anchors(z, torch.arange(10.0), torch.zeros(10), z).best())
        3
        """
        ranked = self.score.argsort(descending=True, stable=True)  # (N,)
        if by_family:
            families = self.families[ranked]
            parts = [ranked[families == label] for label in families.unique()]
        else:
            parts = [ranked]
        rows = torch.cat([part[: max(1, round(share * len(part)))] for part in parts])
        family = self.families[rows] if by_family else None if self.family is None else self.family[rows]
        return Anchors(self.z[rows], self.score[rows], self.epoch[rows], self.weights[rows], family)


@dataclass(frozen=True)
class SamplerOptions:
    """Settings that an artifact stores and all its samplers share.

    Args:
        bandwidth: standard deviation of the Gaussian kernels, in latent units.
        neighbours: number of anchors, the starting one included, that a `local` draw or an `average` mixes.
        noise: standard deviation of the `noise` baseline, in units of each weight's spread over the zoo.
    """

    bandwidth: float = 0.05
    neighbours: int = 8
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Check the values. A file with invalid settings is refused when it is read."""
        numbers = (self.bandwidth, self.noise)
        if not all(type(n) in (int, float) and 0 <= n < 1e6 for n in numbers):
            raise ArgumentError(f"bandwidth and noise must be numbers from 0 to a million, got {shown(numbers)}")
        if type(self.neighbours) is not int or self.neighbours < 1:
            raise ArgumentError(f"neighbours must be an integer of at least 1, got {shown(self.neighbours)}")


class Sampler(Protocol):
    """A method for drawing networks.

    `space` is "latent" if `sample` returns latents (count, L), and "weight" if it returns weight vectors (count, D).
    """

    space: ClassVar[str]

    def __init__(self, options: SamplerOptions) -> None:
        """Read the settings that this sampler uses."""

    def fit(self, anchors: Anchors) -> None:
        """Fit to the anchors. It is called once, before `sample`."""

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw `count` rows, float32. Without a generator, use torch's global one."""


class StartingSampler(Sampler, Protocol):
    """A sampler whose draws begin at anchors. `starts` is true. Its draws can be spread over families."""

    starts: ClassVar[bool]

    def sample(self, count: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
        """Draw `count` rows, which begin at the anchors `rows`, int64 (count,), or at random ones."""


class TrainedSampler(Sampler, Protocol):
    """A sampler whose `fit` is slow. It is fitted when a hyper-representation is made, and artifacts store it."""

    @staticmethod
    def shapes(latent: int) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of `state`, for latents of size L. An artifact holds exactly these."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the fitted tensors by name."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `state` returned, in place of `fit`."""
