"""A hyper-representation in memory: encode, decode, sample, and build networks.

Letters: N networks, D weights per network, L latent size.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit import artifact, nets
from hyperinit.artifact import Header
from hyperinit.autoencoder import Autoencoder
from hyperinit.card import Card
from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit.samplers import Anchors, Sampler, fitted

CHUNK = 256  # networks decoded at once; bounds the memory of a large draw


class HyperRepresentation:
    """A trained autoencoder of a zoo with the anchors of its training snapshots.

    Args:
        header: layout, architecture, card and options.
        autoencoder: trained, in evaluation mode.
        anchors: latents, scores, epochs and weights of the training snapshots.

    >>> import hyperinit
    >>> hr = hyperinit.load("digits")
    >>> hr.sample(3).shape
    torch.Size([3, 2464])
    """

    def __init__(self, header: Header, autoencoder: Autoencoder, anchors: Anchors) -> None:
        self.header = header
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.anchors = anchors
        self._samplers: dict[str, Sampler] = {}

    @classmethod
    def read(cls, path: Path) -> HyperRepresentation:
        """Load an artifact; see `hyperinit.load` for source names.

        Raises:
            ArtifactError: if the file is not a whole and unaltered artifact.
        """
        header, tensors = artifact.read(path)
        anchors = Anchors(*(tensors.pop(name) for name in artifact.ANCHORS))
        with torch.device("meta"):
            scale = torch.ones(header.layout.size, device="cpu")
            autoencoder = Autoencoder(header.autoencoder, header.layout, scale, scale)
        autoencoder.load_state_dict(tensors, assign=True)
        return cls(header, autoencoder, anchors)

    def save(self, path: Path) -> None:
        """Write an artifact; half precision for everything but the standardisation."""
        tensors = dict(self.autoencoder.state_dict())
        anchors = (self.anchors.z, self.anchors.score, self.anchors.epoch, self.anchors.weights)
        tensors |= dict(zip(artifact.ANCHORS, anchors, strict=True))
        exact = ("mean", "std", "anchors.score", "anchors.epoch")
        artifact.write(path, self.header, {k: v if k in exact else v.half() for k, v in tensors.items()})

    @property
    def card(self) -> Card:
        """What this hyper-representation is and what was measured of it."""
        return self.header.card

    @property
    def layout(self) -> Layout:
        """Order of the weights in a vector."""
        return self.header.layout

    def sample(self, count: int = 1, *, method: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` new networks.

        Args:
            count: how many, at least 1.
            method: a name from `hyperinit.methods()`; None takes the card's recommendation.
            generator: the only source of randomness, on the CPU; None is torch's global generator.

        Returns:
            Weight vectors, float32 (count, D), on the CPU.

        Raises:
            ArgumentError: if `count` is not a positive integer.
            UnknownNameError: if there is no such method.
        """
        if type(count) is not int or count < 1:
            raise ArgumentError(f"count must be an integer of at least 1, got {count!r}")
        sampler = self._sampler(self.card.recommended if method is None else method)
        drawn = sampler.sample(count, generator)
        return self.decode(drawn) if sampler.space == "latent" else drawn

    @torch.no_grad()
    def encode(self, weights: Tensor) -> Tensor:
        """Encode weight vectors, float (N, D), to latents, float32 (N, L)."""
        _check("weights", weights, self.layout.size)
        return torch.cat([self.autoencoder.encode(part) for part in weights.float().cpu().split(CHUNK)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents, float (N, L), to weight vectors, float32 (N, D)."""
        _check("latents", latents, self.header.autoencoder.latent)
        return torch.cat([self.autoencoder.decode(part) for part in latents.float().cpu().split(CHUNK)])

    def build_model(self, weights: Tensor) -> nn.Sequential:
        """Return the zoo's own architecture with the given weights (D,).

        Raises:
            ArgumentError: if the weights are not one vector.
            LayoutError: if the artifact does not describe its architecture.
        """
        if tuple(weights.shape) != (self.layout.size,):
            raise ArgumentError(f"weights must have shape ({self.layout.size},), got {tuple(weights.shape)}")
        if self.header.architecture is None:
            raise LayoutError(
                f"{self.card.source} does not describe its architecture; make the module yourself and call init_"
            )
        model = nets.build(self.header.architecture)
        model.load_state_dict(self.layout.unflatten(weights))
        return model

    def layer_stats(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each layer's weights over the zoo, in weight units."""
        mean, std = self.autoencoder.mean, self.autoencoder.std
        return {name: (mean[s.start].item(), std[s.start].item()) for name, s in self.layout.layer_slices.items()}

    def _sampler(self, method: str) -> Sampler:
        if method not in self._samplers:
            self._samplers[method] = fitted(method, self.anchors, self.header.samplers)
        return self._samplers[method]


def _check(name: str, vectors: Tensor, size: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise ArgumentError(f"{name} must have shape (N, {size}) with N >= 1, got {tuple(vectors.shape)}")
    if not vectors.is_floating_point():
        raise ArgumentError(f"{name} must hold floating point numbers, got {vectors.dtype}")
