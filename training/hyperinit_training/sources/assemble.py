"""Assemble a hyper-representation from a zoo, an autoencoder and a card. All ways to make a source end here.

Letters: M training snapshots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import Header
from hyperinit.representation.card import Card
from hyperinit.samplers import Anchors, SamplerOptions
from hyperinit_training.zoo.zoo import Zoo


def assemble(
    zoo: Zoo, autoencoder: Autoencoder, card: Card, samplers: SamplerOptions, *, scores: Tensor
) -> HyperRepresentation:
    """Encode the training snapshots of a zoo and make them the anchors of a hyper-representation.

    Args:
        zoo: prepared; its layout is that of the autoencoder.
        autoencoder: trained, on the CPU.
        card: describes the source; it may still lack measured figures.
        samplers: options of the sampling methods.
        scores: of the training snapshots, (M,), 0 to 1, higher is better. The methods in "30" rank anchors by them.
    """
    train = zoo.part("train")
    epochs = torch.tensor([float(s.epoch) for s in train.snapshots])  # (M,)
    header = Header(card, zoo.layout, zoo.architecture, autoencoder.config, samplers)
    # `encode` is a method of the representation, so the first one gets empty latents, (M, 1).
    bare = HyperRepresentation(header, autoencoder, Anchors(torch.zeros(len(train), 1), scores, epochs, train.weights))
    anchors = Anchors(bare.encode(train.weights), scores, epochs, train.weights)
    return HyperRepresentation(header, autoencoder, anchors)


def zoo_facts(zoo: Zoo) -> dict[str, Any]:
    """Return what a card says about the zoo of a recipe: its provenance, and its numbers of models and anchors."""
    provenance = {key: value for key, value in zoo.provenance.items() if key != "preprocessing"}
    return {**provenance, "models": len({s.model for s in zoo.snapshots}), "anchors": len(zoo.part("train"))}


def unit_scores(scores: Tensor) -> Tensor:
    """Map scores of any scale, such as percentages or negative losses, to 0 to 1 and keep their order.

    >>> unit_scores(torch.tensor([0.5, 0.9])), unit_scores(torch.tensor([-3.0, -1.0, -2.0]))
    (tensor([0.5000, 0.9000]), tensor([0.0000, 1.0000, 0.5000]))
    """
    if scores.min() >= 0 and scores.max() <= 1:
        return scores
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread else torch.zeros_like(scores)
