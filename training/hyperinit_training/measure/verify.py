"""Measure a hyper-representation again and compare the result with its card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from hyperinit.errors import ArtifactError, LayoutError
from hyperinit.representation import HyperRepresentation
from hyperinit.representation.card import Card, table
from hyperinit.samplers import METHODS
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.yardstick import Yardstick


def agreement(representation: HyperRepresentation, data: Path | None, draws: int) -> tuple[str, dict[str, Any]]:
    """Sample with other seeds than the card's and compare accuracies, method by method.

    Two means agree if they differ by at most four standard errors plus 0.1 points. The zoo's own snapshots involve no
    chance and may differ by 0.1 points. All samples of `neigh` share one map. A rounding error changes that map, so it
    differs between machines, and the means may differ by the spread of the samples.

    Args:
        representation: with a measured card.
        data: folder of the images or an `.npz` file; None for embedded images.
        draws: networks to sample for each method, at least 2.

    Returns:
        A report, and its data: the figures "measured" by method, those "stated" by the card, and the names of the
        methods that "disagree".

    Raises:
        DataError: if the images are missing.
        ArtifactError: if the card states no figures.
        LayoutError: if the zoo was not trained from a recipe of this package.
    """
    card = representation.card
    activation = _activation(card)
    if "zoo" not in card.measured:
        raise ArtifactError(
            f"the card of {card.source} must hold measured figures to be verified, got none for the zoo"
        )
    images = load_images(card.zoo["images"]["name"], data)
    snapshots = representation.anchors.weights
    test = Yardstick.on(snapshots, images.normalised("test"), activation)
    generator = torch.Generator().manual_seed(20_000)
    found = {"zoo": test.measure(snapshots)}
    for name in (
        name for name in representation.methods() if name in card.measured
    ):  # an older card lacks newer methods
        found[name] = test.measure(representation.sample(draws, method=name, generator=generator))
    lines, disagree = [], []
    for name, row in found.items():
        stated = card.measured[name]
        same = abs(row["accuracy"] - stated["accuracy"]) <= _tolerance(name, row, stated)
        word = "agrees" if same else "DIFFERS"
        disagree += [name] * (not same)
        lines.append(f"{name:20} card {stated['accuracy']:.2%}, measured {row['accuracy']:.2%}: {word}")
    return f"{table(found)}\n\n" + "\n".join(lines), {
        "measured": found, "stated": {name: card.measured[name] for name in found}, "disagree": disagree,
    }  # fmt: skip


def _tolerance(name: str, row: dict[str, float], stated: dict[str, float]) -> float:
    """Return how far two accuracies of a row may differ, 0 to 1."""
    if name == "zoo":
        return 0.001
    if getattr(METHODS[name].sampler, "chaotic", False):
        return 0.001 + math.hypot(row["std"], stated["std"])
    return 0.001 + 4 * math.hypot(row["std"] / row["n"] ** 0.5, stated["std"] / stated["n"] ** 0.5)


def _activation(card: Card) -> str:
    try:
        return str(card.zoo["recipe"]["activation"])
    except (KeyError, TypeError):
        raise LayoutError(
            f"the zoo of {card.source} must come from a recipe of this package to be verified, got none in its card"
        ) from None
