"""Draws from a three-dimensional UMAP embedding of the anchors, mapped back to the latent space.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

import threading
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
SEED = 42  # of UMAP, as in the authors' code: equal anchors give an equal map
MOST = 4000  # anchors that are embedded; from 4096 on, UMAP searches neighbours in another, slower way
BLOCK = 256  # candidates drawn at once
BLOCKS = 10_000  # at most, per BLOCK points: the hull of a usable map fills some percent of its box


class Neighbourhood:
    """Draw uniform points in the convex hull of a UMAP embedding of the anchors, and invert UMAP at these points.

    Candidates are uniform in the bounding box of the embedding. Candidates outside the convex hull are rejected,
    because UMAP's inverse silently uses an arbitrary simplex for them. Each anchor has 15 neighbours, or N - 1 if there
    are fewer than 16 anchors. Latents are not clamped to the cube.

    The first use in a process takes several seconds, because UMAP is imported and compiled. The fitted map is stored in
    the cache folder, so later processes skip the fit and most of that time.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.3. UMAP's options are those of the authors' code.
    """

    space: ClassVar[str] = "latent"
    least: ClassVar[int] = 5  # anchors: one more than the four corners of a simplex
    chaotic: ClassVar[bool] = True  # rounding errors in the anchors change the map

    def __init__(self, options: SamplerOptions) -> None:
        pass

    def fit(self, anchors: Anchors) -> None:
        """Embed the latents (N, L), with N >= 5; of more than 4,000 anchors, 4,000 evenly spaced in their order.

        Raises:
            ArgumentError: if there are fewer than 5 anchors, or their embedding is flat.
        """
        if len(anchors) < self.least:
            raise ArgumentError(
                f"method neigh must have at least {self.least} anchors, got {len(anchors)}; choose another method"
            )
        from scipy.spatial import Delaunay, QhullError

        with _quiet():
            neighbours = min(NEIGHBOURS, len(anchors) - 1)
            options = {"n_neighbors": neighbours, "min_dist": DISTANCE, "n_components": DIMENSIONS}
            options |= {"random_state": SEED, "n_jobs": 1}
            self.map = neigh_maps.fitted(_thinned(anchors.z).float().numpy().copy(), options)
        try:
            self.hull = Delaunay(self.map.embedding_)  # tetrahedra that fill the convex hull of (N, 3)
        except QhullError as error:
            reason = str(error).partition("\n")[0]
            raise ArgumentError(
                f"the embedding of the anchors must not be flat, got: {reason}; choose another method"
            ) from None

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        points = self._points(count, generator).numpy()
        with _quiet():
            return torch.from_numpy(self.map.inverse_transform(points)).float()

    def _points(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw points (count, 3), uniform in the convex hull of the embedding, by rejection."""
        embedding = torch.from_numpy(self.map.embedding_)  # (N, 3)
        low, high = embedding.amin(0), embedding.amax(0)  # corners of the bounding box, (3,)
        kept, missing = [], count
        for _ in range(BLOCKS * (1 + count // BLOCK)):
            candidates = low + (high - low) * torch.rand(BLOCK, DIMENSIONS, generator=generator)  # (256, 3)
            inside = torch.from_numpy(self.hull.find_simplex(candidates.numpy()) >= 0)  # -1: in no tetrahedron
            kept.append(candidates[inside][:missing])  # at most the points that are still missing
            missing -= len(kept[-1])
            if not missing:
                return torch.cat(kept)
        raise ArgumentError(
            "the embedding of the anchors must not be flat, got an almost flat one; choose another method"
        )


def _thinned(z: Tensor) -> Tensor:
    """Return at most `MOST` latents, evenly spaced in their order."""
    return z if len(z) <= MOST else z[torch.arange(MOST, device="cpu") * len(z) // MOST]


_alone = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide UMAP's warnings about its settings and dependencies, which users cannot act on.

    One thread at a time: the filters of warnings belong to the process, and so do the threads of compiled functions.
    """
    with _alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
