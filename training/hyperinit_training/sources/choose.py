"""Finish a hyper-representation: choose the bandwidth and the recommended method, and measure the card."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS
from hyperinit_training.images.dataset import Images
from hyperinit_training.machine.precision import isolated
from hyperinit_training.machine.progress import tracked
from hyperinit_training.measure.yardstick import Yardstick
from hyperinit_training.zoo.zoo import Zoo

BANDWIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
CANDIDATES = ("kde", "kde30", "local", "local30")  # methods that can be recommended
MARGIN = 0.005  # validation accuracy, 0 to 1, that may be given up for novelty


@isolated()
def finish(
    representation: HyperRepresentation, zoo: Zoo, images: Images, *, draws: int = 50, seed: int = 0
) -> HyperRepresentation:
    """Choose bandwidth and method on validation images, and measure all methods on test images for the card.

    Samplers that need training are trained. A method that needs more anchors than the zoo has is not measured, and a
    line on standard error says so.

    Unless the recipe sets the bandwidth, it is the widest at which the accuracy of `kde` is at most half a point below
    the zoo's. Of the methods at most half a point below the best accuracy, the one whose wrong answers overlap least
    with those of a training snapshot is recommended. Test images have no influence on either choice.

    The figures are those of the saved artifact, which is rounded to half precision.

    Args:
        representation: assembled, with a card without figures.
        zoo: the prepared zoo.
        images: the data set that the zoo was trained on.
        draws: networks to sample for each method.
        seed: of the samples.
    """
    activation = zoo.provenance["recipe"]["activation"]
    val = Yardstick.of(zoo, images.normalised("val"), activation)
    if not representation.header.samplers.bandwidth:
        representation = _with_bandwidth(representation, val, draws, seed + 1)
    # The rounding moves the map of `neigh`, so everything is measured on the artifact as it is read back.
    representation = _as_read(representation.train_samplers())
    found = {
        name: val.measure(_draw(representation, name, draws, seed + 1))
        for name in tracked("choosing a method", CANDIDATES, "method")
    }
    # Accuracy first, then novelty: among methods about as accurate as the best, take the one that copies least. A seed
    # of its own keeps these samples apart from the measured ones below.
    best = max(found[name]["accuracy"] for name in CANDIDATES)
    fit = [name for name in CANDIDATES if found[name]["accuracy"] >= best - MARGIN]
    recommended = min(fit, key=lambda name: found[name]["overlap"])

    test = Yardstick.of(zoo, images.normalised("test"), activation)
    possible = representation.methods()
    for name in METHODS.keys() - possible.keys():
        few = len(representation.anchors)
        print(f"{name} is not measured: it needs more than {few} training snapshots", file=sys.stderr)  # noqa: T201
    measured: dict[str, dict[str, float]] = {
        name: test.measure(_draw(representation, name, draws, seed))
        for name in tracked("measuring", possible, "method")
    }
    held_out = zoo.part("test").weights
    measured["zoo"] = test.measure(test.train)
    if len(held_out):
        measured["zoo-held-out"] = test.measure(held_out)
        measured["zoo-held-out-decoded"] = test.measure(representation.decode(representation.encode(held_out)))
    measured["anchors-decoded"] = test.measure(representation.decode(representation.anchors.z))
    return _with_card(representation, recommended=recommended, measured=measured)


def _as_read(representation: HyperRepresentation) -> HyperRepresentation:
    """Save the hyper-representation and read it back, which rounds it to half precision."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rounded.safetensors"
        representation.save(path)
        return HyperRepresentation.read(path)


def _with_bandwidth(representation: HyperRepresentation, val: Yardstick, draws: int, seed: int) -> HyperRepresentation:
    """Set the widest bandwidth that keeps the accuracy. A wider kernel samples farther from the training snapshots."""
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
