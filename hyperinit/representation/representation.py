"""A hyper-representation in memory. It encodes, decodes and samples weight vectors and builds networks.

Letters: N networks, D weights per network, L latent size.
"""

from __future__ import annotations

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
from hyperinit.representation.artifact import Contents, Header, States
from hyperinit.representation.card import Card
from hyperinit.samplers import METHODS, Anchors, Sampler, enough, fitted, restored, trained

FEWEST = 8  # networks to condition on
MOST_ROWS, MOST_WEIGHTS = 256, 1 << 22  # networks and weights in one batch of encode and decode, to bound memory


class HyperRepresentation:
    """A trained autoencoder of a zoo's networks, with anchors to sample from.

    Args:
        header: layout, architecture, card and options.
        autoencoder: the trained autoencoder. It is set to evaluation mode and frozen in place.
        anchors: latents, scores, epochs and weights of the training snapshots.
        states: tensors of the trained samplers, by method, see `train_samplers`; None for none.

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
        self.found: Found | None = None  # the source file, if it was read from one
        self._samplers: dict[str, Sampler] = {}

    @classmethod
    def read(cls, path: Path | Found) -> HyperRepresentation:
        """Load an artifact from a path; `hyperinit.load` takes names of sources.

        Raises:
            ArtifactError: if the file is not a whole and unaltered artifact.
        """
        found = path if isinstance(path, Found) else Found(path, None, path.stem)
        contents = artifact.read(found.path)
        representation = cls(contents.header, contents.autoencoder, contents.anchors, contents.states)
        representation.found = found
        return representation

    def save(self, path: Path) -> None:
        """Write an artifact; docs/artifact.md describes the file.

        Weights and latents are rounded to half precision. The standardisation, scores and epochs stay float32.

        Raises:
            ArtifactError: if a value is not finite in that precision, or the header would be refused by `read`. Then
                nothing is written.
        """
        artifact.write(path, Contents(self.header, self.autoencoder, self.anchors, self.states))

    @property
    def card(self) -> Card:
        """Description, origin and measured figures."""
        return self.header.card

    @property
    def layout(self) -> Layout:
        """Layout of the networks: the order of the weights in a vector."""
        return self.header.layout

    @property
    def latent_size(self) -> int:
        """Size of a latent, L."""
        return self.header.autoencoder.latent_size(self.layout)

    def sample(self, count: int = 1, *, method: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Sample the weights of `count` new networks.

        Args:
            count: number of networks, at least 1.
            method: a name from `methods()`; None takes the card's recommendation.
            generator: the only source of randomness, on the CPU; None takes torch's global generator.

        Returns:
            Weight vectors, float32 (count, D), on the CPU.

        Raises:
            ArgumentError: if `count` is not a positive integer, if the method needs more anchors, or if a registered
                sampler draws values that are not finite floating point numbers of the right shape.
            ArtifactError: if the artifact lacks the trained sampler of the method, or decoded weights are not finite.
            UnknownNameError: if the method is unknown.
        """
        if type(count) is not int or count < 1:
            raise ArgumentError(f"count must be an integer of at least 1, got {count!r}")
        method = self.card.recommended if method is None else method
        with torch.device("cpu"):  # overrides the default device of the caller
            sampler = self._sampler(method)
            drawn = sampler.sample(count, generator)
            latent = sampler.space == "latent"
            _check_drawn(method, drawn, (count, self.latent_size if latent else self.layout.size))
        if not latent:
            return drawn.detach().float().cpu()
        weights = self.decode(drawn)
        if not headers.is_finite(weights):
            raise ArtifactError(
                f"{shown(self.card.source)} must decode to finite weights, got NaN or infinity with the method "
                f"{method!r}. The decoder in its file is untrained or damaged. Use another source."
            )
        return weights

    def methods(self) -> dict[str, str]:
        """Return the names of the usable methods, each with a description of one line.

        A method is left out if its trained sampler is missing or if it needs more anchors.
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
        """Return a copy whose trained samplers (`gan`, `gan30`) were trained anew on the anchors.

        Training takes some minutes for a few hundred anchors. `save` stores the trained samplers too.
        """
        states = {}
        for name in METHODS:
            kind = trained(name)
            if kind and enough(name, self.anchors):
                sampler = fitted(name, self.anchors, self.header.samplers)
                assert hasattr(sampler, "state")  # for mypy: it is a TrainedSampler
                states[name] = dict(sampler.state())
        return HyperRepresentation(self.header, self.autoencoder, self.anchors, states)

    def with_header(self, header: Header) -> HyperRepresentation:
        """Return a copy with another header, for example with another card or other options."""
        return HyperRepresentation(header, self.autoencoder, self.anchors, self.states)

    def condition(
        self, weights: Tensor, scores: Tensor, *, epochs: Tensor | None = None, gan: bool = False
    ) -> HyperRepresentation:
        """Return a copy with the given networks as anchors, so that it samples networks similar to them.

        The autoencoder is not trained again; it encodes the networks. They must have this layout. Align them to the
        present anchors first (`hyperinit_training.symmetry.align`), because the autoencoder has learned their order of
        neurons. The card of the copy holds no figures, because nothing was measured of it. It keeps the recommended
        method and the preprocessing.

        Args:
            weights: weights of at least 8 networks, float (N, D).
            scores: validation accuracies in [0, 1], (N,). The methods that end in "30" take the best 30%.
            epochs: epochs of training, (N,); None stores 0.
            gan: whether to train `gan` and `gan30` on the new anchors, see `train_samplers`. Otherwise the copy lacks
                them.

        Raises:
            ArgumentError: if a tensor has a wrong shape or dtype, or values that are not finite or out of range.

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
        """Build a network of the zoo's architecture with the given weights (D,).

        Raises:
            ArgumentError: if the weights do not have the shape (D,).
            LayoutError: if the artifact does not describe an architecture.
        """
        if tuple(weights.shape) != (self.layout.size,):
            raise ArgumentError(f"weights must have shape ({self.layout.size},), got {tuple(weights.shape)}")
        if self.header.architecture is None:
            raise LayoutError(
                f"{self.card.source} does not describe its architecture. Create the module and call init_ on it."
            )
        model = nets.build(self.header.architecture)
        model.load_state_dict(self.layout.state(weights))
        return model

    def layer_stats(self) -> dict[str, tuple[float, float]]:
        """Return the mean and standard deviation of the weights of each layer over all anchors, in weight units."""
        layers = {name: self.anchors.weights[:, where] for name, where in self.layout.layer_slices.items()}
        return {name: (part.mean().item(), part.std().item()) for name, part in layers.items()}

    def _sampler(self, method: str) -> Sampler:
        """Return the sampler of a method from the cache; make it anew if the method was registered anew."""
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
            f"{self.card.source} holds no trained sampler for the method {method!r}. Choose one of its methods(), or "
            "call train_samplers(), which takes minutes, and sample from the copy that it returns."
        )


def _check(name: str, vectors: Tensor, size: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise ArgumentError(f"{name} must have shape (N, {size}) with N >= 1, got {tuple(vectors.shape)}")
    if not vectors.isfinite().all():
        raise ArgumentError(f"{name} must be finite, got NaN or infinity. Remove the affected rows.")
    if not vectors.is_floating_point():
        raise ArgumentError(f"{name} must hold floating point numbers, got {vectors.dtype}")


def _check_column(name: str, values: Tensor, count: int, most: float) -> None:
    if tuple(values.shape) != (count,):
        raise ArgumentError(f"{name} must have shape ({count},), one for each network, got {tuple(values.shape)}")
    if not values.isfinite().all() or not ((values >= 0) & (values <= most)).all():
        span = f"{values.min():.3g} to {values.max():.3g}"
        raise ArgumentError(f"{name} must be finite and in [0, {most:g}], got {span}")


def _check_drawn(method: str, drawn: object, shape: tuple[int, int]) -> None:
    """Refuse samples of a wrong type, shape or dtype, or that are not finite, as a registered sampler may draw."""
    if not isinstance(drawn, Tensor):
        got = type(drawn).__name__
    elif tuple(drawn.shape) != shape or not drawn.is_floating_point():
        got = f"{drawn.dtype} {tuple(drawn.shape)}"
    elif not drawn.isfinite().all():
        got = "NaN or infinity"
    else:
        return
    raise ArgumentError(f"method {method!r} must draw finite floating point numbers of shape {shape}, got {got}")
