"""Assemble a hyper-representation from a zoo and its trained autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import Card
from hyperinit.samplers import Anchors, SamplerOptions
from hyperinit_training.recipes.load import Recipe
from hyperinit_training.zoo.zoo import Zoo


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


def assembled(autoencoder: Autoencoder, zoo: Zoo, source: str, title: str) -> HyperRepresentation:
    """Assemble a hyper-representation of a zoo, and measure whether its samples work."""
    part = zoo.part("train")
    epochs = torch.tensor([float(s.epoch) for s in part.snapshots])
    card = Card(
        source=source, title=title, licence="not stated", citation="", preprocessing={}, zoo={}, recommended="kde",
        measured={},
    )  # fmt: skip
    header = Header(card, zoo.layout, zoo.architecture, autoencoder.config, SamplerOptions(bandwidth=0.05))
    scores = unit_scores(part.scores)
    empty = Anchors(torch.zeros(len(part), 1), scores, epochs, part.weights)
    z = HyperRepresentation(header, autoencoder, empty).encode(part.weights)
    return HyperRepresentation(header, autoencoder, Anchors(z, scores, epochs, part.weights))


def unit_scores(scores: Tensor) -> Tensor:
    """Bring scores of another scale, such as percentages or negative losses, to 0 to 1; their order stays.

    >>> unit_scores(torch.tensor([0.5, 0.9])), unit_scores(torch.tensor([-3.0, -1.0, -2.0]))
    (tensor([0.5000, 0.9000]), tensor([0.0000, 1.0000, 0.5000]))
    """
    if scores.min() >= 0 and scores.max() <= 1:
        return scores
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread else torch.zeros_like(scores)
