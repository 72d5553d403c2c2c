"""Assemble a hyper-representation from a zoo, an autoencoder and a card. All ways to make a source end here.

`rehearse` assembles one before the training, so that a zoo that no artifact can hold costs no hours.

Letters: M training snapshots.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArtifactError, ZooError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.artifact import MOST_ANCHORS, Header
from hyperinit.representation.card import Card
from hyperinit.samplers import Anchors, SamplerOptions
from hyperinit_training.machine.precision import isolated
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.zoo import Zoo

REHEARSED = 16  # anchors of a rehearsed artifact


@isolated()
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

    Raises:
        ArtifactError: if an artifact of the result could not be loaded.
    """
    train = zoo.part("train")
    epochs = torch.tensor([float(s.epoch) for s in train.snapshots])  # (M,)
    header = Header(card, zoo.layout, zoo.architecture, autoencoder.config, samplers)
    # `encode` is a method of the representation, so the first one gets empty latents, (M, 1).
    bare = HyperRepresentation(header, autoencoder, Anchors(torch.zeros(len(train), 1), scores, epochs, train.weights))
    anchors = Anchors(bare.encode(train.weights), scores, epochs, train.weights)
    whole = HyperRepresentation(header, autoencoder, anchors)
    whole.check()  # before hours are spent on measuring what `save` would refuse
    return whole


@isolated()
def rehearse(zoo: Zoo, recipe: AutoencoderRecipe, card: Card, samplers: SamplerOptions, *, scores: Tensor) -> None:
    """Assemble and check the artifact of a zoo with an untrained autoencoder. Call it before the training.

    Args:
        zoo: prepared.
        recipe: of the autoencoder.
        card: as far as it is known before the training.
        samplers: as for `assemble`.
        scores: as for `assemble`.

    Raises:
        ZooError: if an artifact could not hold the zoo. All that does not depend on the training is found: epochs,
            scores, sizes, weights beyond half precision, texts of the card.
    """
    train = zoo.part("train")
    if len(train) > MOST_ANCHORS:
        raise ZooError(f"an artifact holds at most {MOST_ANCHORS} training snapshots, got {len(train)}; leave some out")
    _check_half(train)
    few = replace(train, weights=train.weights[:REHEARSED], snapshots=train.snapshots[:REHEARSED])
    with torch.random.fork_rng(devices=[]):
        autoencoder = Training(replace(recipe, permutations=0), zoo).autoencoder.eval()
    try:
        assemble(few, autoencoder, card, samplers, scores=scores[:REHEARSED])
    except ArtifactError as error:
        raise ZooError(f"an artifact must be able to hold the zoo, it cannot: {error}") from None


def _check_half(train: Zoo) -> None:
    """Check that every weight can be stored in half precision, as anchors are."""
    for model, weights in zip(train.snapshots, train.weights, strict=True):
        if weights.half().isfinite().all():
            continue
        names = [tensor.name for tensor in train.layout.tensors for _ in range(tensor.size)]  # (D,)
        column = int(weights.abs().argmax())
        raise ZooError(
            f"weights must lie within 65504, the most in the half precision of artifacts, got {weights[column]:.4g} in "
            f"{names[column]} of model {model.model}"
        )


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
    exact = scores.double()  # in single precision the spread of large scores would be infinite
    spread = exact.max() - exact.min()
    return ((exact - exact.min()) / spread).float() if spread else torch.zeros_like(scores)
