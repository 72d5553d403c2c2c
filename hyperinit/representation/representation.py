"""A hyper-representation in memory: encode, decode, sample, and build networks.

Letters: N networks, D weights per network, L latent size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, ArtifactError, LayoutError, shown
from hyperinit.files import headers
from hyperinit.files.found import Found
from hyperinit.layout import Layout
from hyperinit.representation import artifact
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import Card
from hyperinit.samplers import METHODS, Anchors, Sampler, enough, fitted, restored, trained

States = Mapping[str, Mapping[str, Tensor]]  # of trained samplers, by method
FEWEST = 8  # networks to condition on
MOST_ROWS, MOST_WEIGHTS = 256, 1 << 22  # networks, and their weights, decoded at once; bounds a large draw's memory


class HyperRepresentation:
    """A trained autoencoder of a zoo with the anchors of its training snapshots.

    Args:
        header: layout, architecture, card and options.
        autoencoder: trained, in evaluation mode.
        anchors: latents, scores, epochs and weights of the training snapshots.
        states: of the trained samplers, by method; see `train_samplers`.

    >>> import hyperinit
    >>> hr = hyperinit.load("digits")
    >>> hr.sample(3).shape
    torch.Size([3, 2464])
    """

    def __init__(
        self, header: Header, autoencoder: Autoencoder, anchors: Anchors, states: States | None = None
    ) -> None:
        self.header = header
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.anchors = anchors
        self.states = dict(states or {})
        self.found: Found | None = None  # the file that it was read from
        self._samplers: dict[str, Sampler] = {}

    @classmethod
    def read(cls, path: Path | Found) -> HyperRepresentation:
        """Load an artifact; see `hyperinit.load` for source names.

        Raises:
            ArtifactError: if the file is not a whole and unaltered artifact.
        """
        found = path if isinstance(path, Found) else Found(path, None, path.stem)
        header, tensors = artifact.read(found.path)
        anchors = Anchors(*(tensors.pop(name) for name in artifact.ANCHORS))
        states: dict[str, dict[str, Tensor]] = {}
        for name in [name for name in tensors if name.startswith(artifact.SAMPLERS)]:
            method, _, key = name.removeprefix(artifact.SAMPLERS).partition(".")
            states.setdefault(method, {})[key] = tensors.pop(name)
        with torch.device("meta"):
            scale = torch.ones(header.layout.size, device="cpu")
            autoencoder = Autoencoder(header.autoencoder, header.layout, scale, scale)
        autoencoder.load_state_dict(tensors, assign=True)
        representation = cls(header, autoencoder, anchors, states)
        representation.found = found
        return representation

    def save(self, path: Path) -> None:
        """Write an artifact; half precision for everything but the standardisation."""
        tensors = dict(self.autoencoder.state_dict())
        anchors = (self.anchors.z, self.anchors.score, self.anchors.epoch, self.anchors.weights)
        tensors |= dict(zip(artifact.ANCHORS, anchors, strict=True))
        for method, state in self.states.items():
            tensors |= {f"{artifact.SAMPLERS}{method}.{key}": value for key, value in state.items()}
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

    @property
    def latent_size(self) -> int:
        """L, the size of a latent."""
        return self.header.autoencoder.latent_size(self.layout)

    def sample(self, count: int = 1, *, method: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` new networks.

        Args:
            count: how many, at least 1.
            method: a name from `methods()`; None takes the card's recommendation.
            generator: the only source of randomness, on the CPU; None is torch's global generator.

        Returns:
            Weight vectors, float32 (count, D), on the CPU.

        Raises:
            ArgumentError: if `count` is not a positive integer, there are too few anchors for the method, or a
                sampler of your own draws anything but finite floating point numbers of the right shape.
            ArtifactError: if the method's sampler needs training and the artifact holds none, or its decoder gives
                numbers that are not finite.
            UnknownNameError: if there is no such method.
        """
        if type(count) is not int or count < 1:
            raise ArgumentError(f"count must be an integer of at least 1, got {count!r}")
        method = self.card.recommended if method is None else method
        with torch.device("cpu"):  # whatever the caller's default device is
            sampler = self._sampler(method)
            drawn = sampler.sample(count, generator)
            latent = sampler.space == "latent"
            _check_drawn(method, drawn, (count, self.latent_size if latent else self.layout.size))
        if not latent:
            return drawn.detach().float().cpu()
        weights = self.decode(drawn)
        if not headers.is_finite(weights):
            raise ArtifactError(
                f"{shown(self.card.source)} must decode to finite weights, got NaN or infinity by the method "
                f"{method!r}; its file holds a decoder that was not trained, or was altered"
            )
        return weights

    def methods(self) -> dict[str, str]:
        """Names of the methods that this hyper-representation can draw with, with one line each.

        Methods that it cannot draw with are left out: those whose sampler needs training and is not there, and those
        that need more anchors.
        """
        lines = {}
        for name, method in METHODS.items():
            if not (name in self.states if trained(name) else enough(name, self.anchors)):
                continue
            found = self.card.measured.get(name)
            figure = f"; {found['accuracy']:.1%} before any training" if found else ""
            lines[name] = method.title + figure + ("; recommended" if name == self.card.recommended else "")
        return lines

    def train_samplers(self) -> HyperRepresentation:
        """Return the same hyper-representation with samplers that need training (`gan`, `gan30`) trained anew.

        It takes some minutes for a few hundred anchors, and the result is saved with the rest.
        """
        states = {}
        for name in METHODS:
            kind = trained(name)
            if kind and enough(name, self.anchors):
                sampler = fitted(name, self.anchors, self.header.samplers)
                assert hasattr(sampler, "state")  # it is of that kind
                states[name] = dict(sampler.state())
        return HyperRepresentation(self.header, self.autoencoder, self.anchors, states)

    def with_header(self, header: Header) -> HyperRepresentation:
        """Return the same hyper-representation with another card or other options."""
        return HyperRepresentation(header, self.autoencoder, self.anchors, self.states)

    def condition(
        self, weights: Tensor, scores: Tensor, *, epochs: Tensor | None = None, gan: bool = False
    ) -> HyperRepresentation:
        """Return a hyper-representation that draws networks like other ones, without training the autoencoder again.

        The networks are encoded and take the place of the anchors. They must have this layout, and should be
        aligned to the anchors (`hyperinit_training.symmetry.align`), whose order of neurons the autoencoder has
        learned. Nothing is measured of the result, so its card holds no figures. Its recommendation and its
        preprocessing are the source's.

        Args:
            weights: of at least 8 networks, float (N, D).
            scores: validation accuracies, 0 to 1, (N,), for the methods in "30".
            epochs: of training, (N,); None writes 0.
            gan: whether to train the samplers that need it, see `train_samplers`; without it they are dropped.

        Raises:
            ArgumentError: if a tensor has another shape or other values.

        Source: Schürholt et al. 2022, arXiv:2209.14733, Table 3.
        """
        _check("weights", weights, self.layout.size)
        count = len(weights)
        if count < FEWEST:
            raise ArgumentError(f"weights must hold at least {FEWEST} networks to condition on, got {count}")
        _check_column("scores", scores, count, 1.0)
        epochs = torch.zeros(count) if epochs is None else epochs
        _check_column("epochs", epochs, count, float("inf"))
        columns = [value.detach().float().cpu().clone() for value in (scores, epochs, weights)]
        card = replace(
            self.card,
            title=f"{self.card.title}, conditioned on {count} other networks",
            zoo=dict(self.card.zoo) | {"anchors": 0, "conditioned": count},
            measured={},
        )
        header = replace(self.header, card=card)
        other = HyperRepresentation(header, self.autoencoder, Anchors(self.encode(columns[2]), *columns))
        return other.train_samplers() if gan else other

    @torch.no_grad()
    def encode(self, weights: Tensor) -> Tensor:
        """Encode weight vectors, float (N, D), to latents, float32 (N, L)."""
        _check("weights", weights, self.layout.size)
        return torch.cat([self.autoencoder.encode(part) for part in weights.float().cpu().split(self._rows)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents, float (N, L), to weight vectors, float32 (N, D)."""
        _check("latents", latents, self.latent_size)
        return torch.cat([self.autoencoder.decode(part) for part in latents.float().cpu().split(self._rows)])

    @property
    def _rows(self) -> int:
        return max(1, min(MOST_ROWS, MOST_WEIGHTS // self.layout.size))

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
        model.load_state_dict(self.layout.state(weights))
        return model

    def layer_stats(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each layer's weights over the anchors, in weight units."""
        layers = {name: self.anchors.weights[:, where] for name, where in self.layout.layer_slices.items()}
        return {name: (part.mean().item(), part.std().item()) for name, part in layers.items()}

    def _sampler(self, method: str) -> Sampler:
        """Return the method's sampler, made once for as long as the method means the same class."""
        known = self._samplers.get(method)
        if known is None or type(known) is not METHODS[method].sampler:
            known = self._samplers[method] = self._made(method)
        return known

    def _made(self, method: str) -> Sampler:
        if method not in METHODS or not trained(method):
            return fitted(method, self.anchors, self.header.samplers)
        if method in self.states:
            return restored(method, self.states[method], self.header.samplers)
        raise ArtifactError(
            f"{self.card.source} holds no trained sampler for the method {method!r}. Take one of its methods(), or "
            "train one with train_samplers(), which takes minutes, and draw from, or save(), what that returns."
        )


def _check(name: str, vectors: Tensor, size: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise ArgumentError(f"{name} must have shape (N, {size}) with N >= 1, got {tuple(vectors.shape)}")
    if not vectors.isfinite().all():
        raise ArgumentError(f"{name} must be finite, got NaN or infinity; leave those out")
    if not vectors.is_floating_point():
        raise ArgumentError(f"{name} must hold floating point numbers, got {vectors.dtype}")


def _check_column(name: str, values: Tensor, count: int, most: float) -> None:
    if tuple(values.shape) != (count,):
        raise ArgumentError(f"{name} must have shape ({count},), one for each network, got {tuple(values.shape)}")
    if not values.isfinite().all() or not ((values >= 0) & (values <= most)).all():
        span = f"{values.min():.3g} to {values.max():.3g}"
        raise ArgumentError(f"{name} must be finite and in [0, {most:g}], got {span}")


def _check_drawn(method: str, drawn: object, shape: tuple[int, int]) -> None:
    """Refuse what a sampler of the user's own should not have drawn."""
    if not isinstance(drawn, Tensor):
        got = type(drawn).__name__
    elif tuple(drawn.shape) != shape or not drawn.is_floating_point():
        got = f"{drawn.dtype} {tuple(drawn.shape)}"
    elif not drawn.isfinite().all():
        got = "numbers that are not finite"
    else:
        return
    raise ArgumentError(f"method {method!r} must draw finite floating point numbers of shape {shape}, got {got}")
