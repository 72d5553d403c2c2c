"""The values that a source's networks expect as inputs, and a warning for batches that hold others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hyperinit.batches.loaders import Loader, inputs_of
from hyperinit.errors import HyperinitError, MismatchWarning, warn
from hyperinit.representation.card import Card

MOST = 4.0  # values beyond this multiple of the largest expected one are pixels in 0..255
WIDE = 1.2  # an expected range that goes beyond -1..1 by this factor makes images that stay within it suspicious
COST = (  # tests/hyperinit/test_api_mismatch.py measures it
    "Decoded weights need the inputs that they were trained on: on digits, images in 0..1 leave 60 % of test images "
    "right in place of 95 % before any training."
)
FEWEST = 256  # values in a batch, before their range says something


class Watched:
    """A loader whose first batch is compared with what a source's networks expect, each time that it is read.

    Args:
        name: of the argument, for the warning.
        loader: yields batches.
        card: of the source. Without mean and std in its preprocessing nothing is compared.
    """

    def __init__(self, name: str, loader: Loader, card: Card) -> None:
        self._name, self._loader, self._card = name, loader, card

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches, with a `MismatchWarning` before the first if its values are in another range."""
        for number, batch in enumerate(self._loader):
            if number == 0:
                _compare(self._name, batch, self._card)
            yield batch


def watched(calibrate: Loader | None, select: Loader | None, card: Card) -> tuple[Loader | None, Loader | None]:
    """Return both loaders so that each warns of values that the source does not expect. One loader stays one loader."""
    first = None if calibrate is None else Watched("calibrate", calibrate, card)
    if select is None or select is calibrate:
        return first, None if select is None else first
    return first, Watched("select", select, card)


def expected_range(preprocessing: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the least and the largest value of normalised images, or None if the normalisation is not known.

    >>> expected_range({"mean": [0.5], "std": [0.25]})
    (-2.0, 2.0)
    """
    mean, std = (preprocessing.get(key) for key in ("mean", "std"))
    if not isinstance(mean, list | tuple) or not isinstance(std, list | tuple) or not mean or len(mean) != len(std):
        return None
    if not all(value > 0 for value in std):
        return None
    pairs = list(zip(mean, std, strict=True))
    return min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)


def looks_raw(inputs: Tensor, lowest: float, highest: float) -> bool:
    """Return whether images look as if they were not normalised: integers, or values in 0..1, -1..1 or 0..255.

    Args:
        inputs: images, (B, channels, height, width) or (B, height, width). Others are not judged, nor constant ones.
        lowest: the least value of a normalised image.
        highest: its largest value.

    >>> looks_raw(torch.linspace(0, 1, 784).reshape(1, 28, 28), -0.4, 2.8)
    True
    >>> looks_raw(torch.linspace(-0.4, 2.8, 784).reshape(1, 28, 28), -0.4, 2.8)
    False
    """
    if inputs.ndim not in (3, 4) or inputs.numel() < FEWEST or inputs.layout != torch.strided or inputs.is_meta:
        return False
    if inputs.is_complex():
        return False
    low, high = (float(value) for value in inputs.detach().float().aminmax())
    if low == high:
        return False
    if not inputs.is_floating_point() or high > MOST * max(abs(lowest), abs(highest)):
        return True
    if low >= 0 and high <= 1:
        return lowest < 0
    return low >= -1 and high <= 1 and max(abs(lowest), abs(highest)) > WIDE


def _compare(name: str, batch: object, card: Card) -> None:
    """Warn if the inputs of a batch look raw: say what they cost, and what to do."""
    expected = expected_range(card.preprocessing)
    try:
        inputs = inputs_of(batch)
    except HyperinitError:  # refused where the batch is used
        return
    if expected is None or not looks_raw(inputs, *expected):
        return
    mean, std = ([round(float(value), 4) for value in card.preprocessing[key]] for key in ("mean", "std"))
    low, high = (float(value) for value in inputs.detach().float().aminmax())
    dtype = str(inputs.dtype).removeprefix("torch.")
    warn(
        f"{name} must hold images as the networks of {card.source} expect them: normalised with mean {mean} and std "
        f"{std}, so in {expected[0]:.2f}..{expected[1]:.2f}. Got {dtype} in {low:.2f}..{high:.2f}. {COST} "
        f"Normalise the images, here and in the training that follows, such as with "
        f"hyperinit.transforms({card.source!r})",
        MismatchWarning,
    )
