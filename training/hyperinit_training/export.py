"""From a trained autoencoder to a finished hyper-representation: anchors, options, recommendation, measured card."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hyperinit.artifact import Header
from hyperinit.autoencoder import Autoencoder
from hyperinit.card import Card
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS, Anchors
from hyperinit_training.images import Images
from hyperinit_training.measure import Data, figures, mistakes
from hyperinit_training.recipe import Recipe
from hyperinit_training.zoo import Zoo

BANDWIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
CANDIDATES = ("kde", "kde30", "local", "local30")  # methods that may be recommended
MARGIN = 0.005  # how much validation accuracy novelty may cost


def assemble(recipe: Recipe, zoo: Zoo, autoencoder: Autoencoder) -> HyperRepresentation:
    """Put a trained autoencoder together with the anchors of its (prepared) zoo's training snapshots."""
    train = zoo.part("train")
    epochs = torch.tensor([s.epoch for s in train.snapshots])
    with torch.no_grad():
        anchors = Anchors(autoencoder.encode(train.weights), train.ranked_by(recipe.rank_by), epochs, train.weights)
    provenance = {key: value for key, value in zoo.provenance.items() if key != "preprocessing"}
    ranked = {} if recipe.rank_by == "val" else {"ranked by": recipe.rank_by}
    card = Card(
        source=recipe.name.removesuffix("-tuned"),
        title=recipe.title,
        licence=recipe.licence,
        citation=recipe.citation,
        preprocessing=dict(zoo.provenance["preprocessing"]),
        zoo={**provenance, "models": len({s.model for s in zoo.snapshots}), "anchors": len(anchors), **ranked},
        recommended="kde30",
        measured={},
    )
    header = Header(card, zoo.layout, zoo.architecture, autoencoder.config, recipe.samplers)
    return HyperRepresentation(header, autoencoder, anchors)


@dataclass(frozen=True)
class Yardstick:
    """The real networks that generated ones are compared with, on one set of images.

    Args:
        data: normalised images and labels.
        activation: of the networks.
        train: training snapshots (M, D).
        train_wrong: their mistakes (M, I).
    """

    data: Data
    activation: str
    train: Tensor
    train_wrong: Tensor

    @classmethod
    def of(cls, zoo: Zoo, data: Data, activation: str) -> Yardstick:
        """Evaluate the training snapshots of a prepared zoo once."""
        return cls.on(zoo.part("train").weights, data, activation)

    @classmethod
    def on(cls, train: Tensor, data: Data, activation: str) -> Yardstick:
        """Evaluate training snapshots (M, D) once."""
        return cls(data, activation, train, mistakes(train, data, activation))

    def measure(self, weights: Tensor) -> dict[str, float]:
        """Figures of networks (N, D), see `measure.figures`."""
        return figures(weights, mistakes(weights, self.data, self.activation), self.train, self.train_wrong)


def finish(
    representation: HyperRepresentation, zoo: Zoo, images: Images, *, draws: int = 50, seed: int = 0
) -> HyperRepresentation:
    """Choose bandwidth and method by validation images; write the figures of all methods on test images into the card.

    Samplers that need training are trained. A method that needs more anchors than there are is not measured, and a
    printed line says so.

    The bandwidth (unless the recipe sets one) is the widest at which `kde` stays within half a point of the zoo's own
    accuracy. The recommendation is the method with the least overlap of wrong answers with training snapshots among
    those within half a point of the best accuracy. Test images decide nothing. What is measured is what a reader of the
    artifact gets: rounded to half precision, which gives `neigh` another map.
    """
    activation = zoo.provenance["recipe"]["activation"]
    val = Yardstick.of(zoo, images.normalised("val"), activation)
    if not representation.header.samplers.bandwidth:
        representation = _with_bandwidth(representation, val, draws, seed + 1)
    representation = _as_read(representation.train_samplers())
    found = {name: val.measure(_draw(representation, name, draws, seed + 1)) for name in CANDIDATES}
    best = max(found[name]["accuracy"] for name in CANDIDATES)
    fit = [name for name in CANDIDATES if found[name]["accuracy"] >= best - MARGIN]
    recommended = min(fit, key=lambda name: found[name]["overlap"])

    test = Yardstick.of(zoo, images.normalised("test"), activation)
    possible = representation.methods()
    for name in METHODS.keys() - possible.keys():
        few = len(representation.anchors)
        print(f"{name} is not measured: it needs more than {few} training snapshots", file=sys.stderr)  # noqa: T201
    measured: dict[str, dict[str, float]] = {
        name: test.measure(_draw(representation, name, draws, seed)) for name in possible
    }
    held_out = zoo.part("test").weights
    measured["zoo"] = test.measure(test.train)
    if len(held_out):
        measured["zoo-held-out"] = test.measure(held_out)
        measured["zoo-held-out-decoded"] = test.measure(representation.decode(representation.encode(held_out)))
    measured["anchors-decoded"] = test.measure(representation.decode(representation.anchors.z))
    return _with_card(representation, recommended=recommended, measured=measured)


def _as_read(representation: HyperRepresentation) -> HyperRepresentation:
    """Return the hyper-representation as it is read from its artifact."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rounded.safetensors"
        representation.save(path)
        return HyperRepresentation.read(path)


def _with_bandwidth(representation: HyperRepresentation, val: Yardstick, draws: int, seed: int) -> HyperRepresentation:
    """Widen the kernels for as long as accuracy bears it: the wider, the farther from the training snapshots."""
    least = 1 - val.train_wrong.float().mean().item() - MARGIN
    chosen = _changed(representation, bandwidth=BANDWIDTHS[0])
    for bandwidth in BANDWIDTHS[1:]:
        wider = _changed(representation, bandwidth=bandwidth)
        if val.measure(_draw(wider, "kde", draws, seed))["accuracy"] < least:
            break
        chosen = wider
    return chosen


def _changed(representation: HyperRepresentation, **options: float) -> HyperRepresentation:
    header = representation.header
    return representation.with_header(replace(header, samplers=replace(header.samplers, **options)))  # type: ignore[arg-type]


def _draw(representation: HyperRepresentation, method: str, draws: int, seed: int) -> Tensor:
    return representation.sample(draws, method=method, generator=torch.Generator().manual_seed(seed))


def _with_card(representation: HyperRepresentation, **changes: Any) -> HyperRepresentation:
    return representation.with_header(replace(representation.header, card=replace(representation.card, **changes)))
