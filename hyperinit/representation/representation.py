"""A hyper-representation in memory. It encodes, decodes and samples weight vectors and builds networks.

Letters: N networks, D weights per network, L latent size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit import nets, samplers
from hyperinit.autoencoder import Autoencoder, Cost
from hyperinit.errors import ArgumentError, ArtifactError, LayoutError, UnusableWarning, one_line, shown, warn
from hyperinit.files import headers
from hyperinit.files.found import Found
from hyperinit.files.room import memory
from hyperinit.generators import check_generator, settled
from hyperinit.layout import Layout
from hyperinit.representation import artifact
from hyperinit.representation.artifact import Contents, Header, States
from hyperinit.representation.card import Card
from hyperinit.samplers import METHODS, Anchors, Sampler, enough, fitted, restored, trained
from hyperinit.samplers.methods import Spread, find, starts

FEWEST = 8  # networks to condition on
MOST_NETWORKS = 2**31 - 1  # to sample at once
MOST_ROWS, MOST_WEIGHTS = 256, 1 << 22  # networks and weights in one batch of encode and decode, to bound memory
MOST_NUMBERS = 1 << 26  # in the largest tensor on the way, for one batch: 256 MiB


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
        self._samplers: dict[tuple[str, bool], Sampler] = {}  # by method, and whether draws are spread over families

    @classmethod
    def read(cls, path: Path | Found) -> HyperRepresentation:
        """Load an artifact from a path; `hyperinit.load` takes names of sources.

        Raises:
            ArtifactError: if the file is not a whole and unaltered artifact.
        """
        found = path if isinstance(path, Found) else Found(path, None, path.stem)
        with settled():
            contents = artifact.read(found.path)
        representation = cls(contents.header, contents.autoencoder, contents.anchors, contents.states)
        representation.found = found
        return representation

    def save(self, path: Path) -> None:
        """Write an artifact; docs/artifact.md describes the file.

        Weights and latents are rounded to half precision. The standardisation, scores and epochs stay float32.

        Raises:
            ArtifactError: if a value is not finite in that precision, or `read` would refuse the file for another
                reason. Then nothing is written.
            WriteError: if the file cannot be written.
        """
        artifact.write(path, self._contents)

    def check(self) -> None:
        """Run every check that loading runs, without writing a file.

        Raises:
            ArtifactError: if `save` would refuse.
        """
        artifact.check(self._contents)

    @property
    def _contents(self) -> Contents:
        return Contents(self.header, self.autoencoder, self.anchors, self.states)

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

    def sample(
        self,
        count: int = 1,
        *,
        method: str | None = None,
        generator: torch.Generator | None = None,
        spread: bool = False,
    ) -> Tensor:
        """Sample the weights of `count` new networks.

        Args:
            count: number of networks, at least 1.
            method: a name from `methods()`; None takes the card's recommendation.
            generator: the only source of randomness, on the CPU; None takes torch's global generator.
            spread: whether draws begin at anchors of as many families as there are, in turn. Methods in "30" then use
                the best 30 % of each family. Methods that do not begin at an anchor ignore it.

        Returns:
            Weight vectors, float32 (count, D), on the CPU.

        Raises:
            ArgumentError: if `count` is no positive integer, or too large for this machine's memory, `spread` is no
                bool, the generator is not on the CPU, the method needs more anchors, or a registered sampler draws
                anything but finite numbers of the right shape.
            ArtifactError: if the artifact lacks the trained sampler of the method, or decoded weights are not finite.
            UnknownNameError: if the method is unknown.
        """
        if type(count) is not int or count < 1:
            raise ArgumentError(f"count must be an integer of at least 1, got {shown(count)}")
        most = min(MOST_NETWORKS, memory() // (4 * self.layout.size))
        if count > most:
            raise ArgumentError(f"count must be at most {most:,} networks, which fill the memory, got {shown(count)}")
        check_generator(generator)
        if type(spread) is not bool:
            raise ArgumentError(f"spread must be True or False, got {shown(spread)}")
        method = self.card.recommended if method is None else method
        find(method)  # raises if there is no such method
        if self.card.unusable:
            warn(
                f"{one_line(self.card.source)} must be usable, but its card says: {one_line(self.card.unusable)} Train "
                f"its samples before use, or choose another source",
                UnusableWarning,
            )
        with settled():
            spread = spread and starts(method)
            sampler = self._sampler(method, spread=spread)
            drawn = sampler.sample(count, generator)
            latent = sampler.space == "latent"
            _check_drawn(method, sampler, drawn, (count, self.latent_size if latent else self.layout.size))
        if not latent:
            return drawn.detach().float().cpu()
        return self._decoded(drawn, f" with the method {method!r}")

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

    @settled()
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
        weights = _checked("weights", weights, self.layout.size)
        count = len(weights)
        if count < FEWEST:
            raise ArgumentError(f"weights must hold at least {FEWEST} networks to condition on, got {count}")
        columns = [
            _column("scores", scores, count, 1.0),
            _column("epochs", torch.zeros(count) if epochs is None else epochs, count, float("inf")),
            weights.detach().clone(),
        ]
        card = replace(
            self.card,
            title=f"{self.card.title}, conditioned on {count} other networks",
            zoo=dict(self.card.zoo) | {"anchors": 0, "conditioned": count},
            measured={},
        )
        header = replace(self.header, card=card)
        other = HyperRepresentation(header, self.autoencoder, Anchors(self.encode(columns[2]), *columns))
        return other.train_samplers() if gan else other

    @settled(bare=True)
    def encode(self, weights: Tensor) -> Tensor:
        """Encode weight vectors, float (N, D), to latents, float32 (N, L).

        Raises:
            ArgumentError: if `weights` has another shape or dtype, or values that are not finite.
            ArtifactError: if the encoder of this source gives NaN or infinity.
        """
        model, found = self.autoencoder, []
        for part in _checked("weights", weights, self.layout.size).split(self._rows):
            standardised = model.standardise(part)
            self._check_finite("standardise to finite weights", standardised)
            latents = model.encode_unbounded(standardised)
            self._check_finite("encode to finite latents", latents)  # before the tanh, which hides infinity
            found.append(model.bound(latents))
        return torch.cat(found)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents, float (N, L), to weight vectors, float32 (N, D).

        Raises:
            ArgumentError: if `latents` has another shape or dtype, or values that are not finite.
            ArtifactError: if the decoder of this source gives NaN or infinity.
        """
        return self._decoded(latents)

    @settled(bare=True)
    def _decoded(self, latents: Tensor, how: str = "") -> Tensor:
        parts = _checked("latents", latents, self.latent_size).split(self._rows)
        weights = torch.cat([self.autoencoder.decode(part) for part in parts])
        self._check_finite("decode to finite weights", weights, how)
        return weights

    def _check_finite(self, what: str, values: Tensor, how: str = "") -> None:
        """Refuse NaN and infinity that this source makes of finite numbers."""
        if not headers.is_finite(values):
            raise ArtifactError(
                f"{shown(self.card.source)} must {what}, got NaN or infinity{how}. The autoencoder in its file is "
                "untrained or damaged. Use another source."
            )

    @property
    def _rows(self) -> int:
        """Networks in one batch of `encode` and `decode`."""
        numbers = Cost.of(self.header.autoencoder, self.layout).numbers
        return max(1, min(MOST_ROWS, MOST_WEIGHTS // self.layout.size, MOST_NUMBERS // numbers))

    @settled()
    def build_model(self, weights: Tensor) -> nn.Module:
        """Build a network of the zoo's architecture with the given weights (D,).

        Raises:
            ArgumentError: if the weights do not have the shape (D,).
            LayoutError: if the artifact does not describe an architecture.
        """
        if not isinstance(weights, Tensor) or tuple(weights.shape) != (self.layout.size,):
            got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ArgumentError(f"weights must have shape ({self.layout.size},), got {got}")
        if self.header.architecture is None:
            raise LayoutError(
                f"{self.card.source} does not describe its architecture. Create the module and call init_ on it."
            )
        model = nets.build(self.header.architecture)
        model.load_state_dict(model.state_dict() | self.layout.state(weights))  # counters of norms stay 0
        return model

    @settled()
    def layer_stats(self) -> dict[str, tuple[float, float]]:
        """Return the mean and standard deviation of the weights of each layer over all anchors, in weight units.

        Raises:
            ArtifactError: if one of them is too large for float32.
        """
        found = {}
        for name, where in self.layout.layer_slices.items():
            part = self.anchors.weights[:, where]  # (N, weights of the layer)
            spread = part.std() if part.numel() > 1 else part.new_zeros(())  # a single weight has none
            self._check_finite("have anchors with a finite mean and spread", torch.stack([part.mean(), spread]))
            found[name] = (part.mean().item(), spread.item())
        return found

    def _sampler(self, method: str, *, spread: bool) -> Sampler:
        """Return the sampler of a method from the cache; make it anew if the method was registered anew."""
        known = self._samplers.get((method, spread))
        if known is None or type(known.sampler if isinstance(known, Spread) else known) is not METHODS[method].sampler:
            known = self._samplers[method, spread] = self._made(method, spread=spread)
        return known

    def _made(self, method: str, *, spread: bool) -> Sampler:
        if method not in METHODS or not trained(method):
            return fitted(method, self.anchors, self.header.samplers, spread=spread)
        if method in self.states:
            return restored(method, self.states[method], self.header.samplers)
        raise ArtifactError(
            f"{self.card.source} holds no trained sampler for the method {method!r}. Choose one of its methods(), or "
            "call train_samplers(), which takes minutes, and sample from the copy that it returns."
        )


def _checked(name: str, vectors: Tensor, size: int) -> Tensor:
    """Return vectors (N, size) in float32 on the CPU, or say what is wrong with them."""
    found = _dense(name, vectors, f"(N, {size})")
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise ArgumentError(f"{name} must have shape (N, {size}) with N >= 1, got {tuple(vectors.shape)}")
    if not vectors.is_floating_point():
        raise ArgumentError(f"{name} must hold floating point numbers, got {vectors.dtype}")
    if not headers.is_finite(found):
        raise ArgumentError(f"{name} must be finite, got NaN or infinity. Remove the affected rows.")
    return found


def _column(name: str, values: Tensor, count: int, most: float) -> Tensor:
    """Return a copy of values (count,) in float32 on the CPU, or say what is wrong with them."""
    found = _dense(name, values, f"({count},)")
    if tuple(found.shape) != (count,):
        raise ArgumentError(f"{name} must have shape ({count},), one for each network, got {tuple(found.shape)}")
    if not found.isfinite().all() or not ((found >= 0) & (found <= most)).all():
        span = f"{values.min():.3g} to {values.max():.3g}"
        raise ArgumentError(f"{name} must be finite and in [0, {most:g}], got {span}")
    return found.detach().clone()


def _dense(name: str, values: Tensor, shape: str) -> Tensor:
    """Return real numbers in float32 on the CPU; refuse what is no tensor or has no values of its own."""
    if not isinstance(values, Tensor):
        raise ArgumentError(f"{name} must be a tensor of shape {shape}, got {type(values).__name__}")
    if values.layout is not torch.strided or values.is_meta or values.is_nested:
        got = "nested" if values.is_nested else f"{values.layout} on {values.device}"
        raise ArgumentError(f"{name} must be a dense tensor with values, got {got}")
    if values.is_complex():
        raise ArgumentError(f"{name} must hold floating point numbers, got {values.dtype}")
    return values.float().cpu()


def _check_drawn(method: str, sampler: Sampler, drawn: object, shape: tuple[int, int]) -> None:
    """Refuse samples of a wrong type, shape or dtype, or that are not finite.

    A registered sampler may draw anything. Those of this package draw NaN or infinity only from anchors, options or
    states that are too large.
    """
    if not isinstance(drawn, Tensor):
        got = type(drawn).__name__
    elif tuple(drawn.shape) != shape or not drawn.is_floating_point():
        got = f"{drawn.dtype} {tuple(drawn.shape)}"
    elif not drawn.isfinite().all():
        got = "NaN or infinity"
    else:
        return
    error = ArtifactError if type(sampler).__module__.startswith(samplers.__name__) else ArgumentError
    raise error(f"method {method!r} must draw finite floating point numbers of shape {shape}, got {got}")
