"""Draws from a three-dimensional map of the anchors (UMAP), taken back to the latent space.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.samplers import neigh_maps
from hyperinit.samplers.base import Anchors, SamplerOptions

NEIGHBOURS = 15
DISTANCE = 0.01
DIMENSIONS = 3
SEED = 42  # of the map, as in the authors' code: equal anchors give an equal map
BLOCK = 256  # candidates drawn at once
BLOCKS = 10_000  # after which a map is given up; a usable one fills some percent of its box


class Neighbourhood:
    """Uniform in the convex hull of a UMAP embedding of the anchors, then UMAP's inverse.

    Candidates are uniform in the box that holds the embedding, axis by axis; those outside the convex hull of the
    embedding are rejected, because UMAP's inverse takes an arbitrary simplex for them and says nothing. Each anchor
    has 15 neighbours, or N - 1 if there are fewer than 16 anchors. Latents are not clamped to the cube.

    The map takes seconds and more at the first use in a process, when UMAP is imported and compiled; it is kept in the
    cache folder, which saves later processes the fit and most of that time.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.3; the options are those of the authors' code.
    """

    space: ClassVar[str] = "latent"
    least: ClassVar[int] = 5  # anchors: a simplex of the embedding has four corners
    chaotic: ClassVar[bool] = True  # a rounding error in the anchors gives another map

    def __init__(self, options: SamplerOptions) -> None:
        pass

    def fit(self, anchors: Anchors) -> None:
        """Embed the latents (N, L); needs N >= 5.

        Raises:
            ArgumentError: if there are fewer anchors, or their embedding is flat.
        """
        if len(anchors) < self.least:
            raise ArgumentError(
                f"a neighbourhood map needs at least {self.least} anchors, got {len(anchors)}; take another method"
            )
        with _quiet():
            from scipy.spatial import Delaunay, QhullError

            neighbours = min(NEIGHBOURS, len(anchors) - 1)
            options = {"n_neighbors": neighbours, "min_dist": DISTANCE, "n_components": DIMENSIONS}
            options |= {"random_state": SEED, "n_jobs": 1}
            self.map = neigh_maps.fitted(anchors.z.float().numpy().copy(), options)
        try:
            self.hull = Delaunay(self.map.embedding_)
        except QhullError as error:
            reason = str(error).partition("\n")[0]
            raise ArgumentError(
                f"the anchors' embedding must fill a volume, got: {reason}; take another method"
            ) from None

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        points = self._points(count, generator).numpy()
        with _quiet():
            return torch.from_numpy(self.map.inverse_transform(points)).float()

    def _points(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw points (count, 3), uniform in the convex hull of the embedding."""
        embedding = torch.from_numpy(self.map.embedding_)
        low, high = embedding.amin(0), embedding.amax(0)
        kept, missing = [], count
        for _ in range(BLOCKS * (1 + count // BLOCK)):
            candidates = low + (high - low) * torch.rand(BLOCK, DIMENSIONS, generator=generator)
            inside = torch.from_numpy(self.hull.find_simplex(candidates.numpy()) >= 0)
            kept.append(candidates[inside][:missing])
            missing -= len(kept[-1])
            if not missing:
                return torch.cat(kept)
        raise ArgumentError(
            "the anchors' embedding must fill a volume, got one that is almost flat; take another method"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep UMAP's warnings about its own settings and dependencies from a user who can act on none of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
