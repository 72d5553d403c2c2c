"""Turn images into inputs of a source's networks, as its card describes them. It needs no torchvision.

Letters used for tensor shapes: B images, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hyperinit.errors import ArgumentError, shown
from hyperinit.generators import settled
from hyperinit.representation.card import Card

KEYS = ("size", "channels", "mean", "std")  # of a card's preprocessing
LUMA = (19595, 38470, 7471)  # ITU-R 601 weights of red, green and blue, times 2^16, as in Pillow
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")  # of 8 bits, in Pillow
FORMS = (
    "a PIL image, a uint8 array (H, W), (H, W, channels) or (B, H, W, channels), or a uint8 tensor (channels, H, W) or "
    "(B, channels, H, W), with 1 or 3 channels"
)


@dataclass(frozen=True)
class Transform:
    """A callable from images to inputs: channels, size, values from 0 to 1, and then normalised.

    Colours become ITU-R 601 luma if the source has one channel, and grey images are repeated for three. The shorter
    side of an image is resized, bilinear with antialiasing, and the centre is cropped to a square. With `crop`, larger
    images are only cropped.

    Args:
        size: height and width of an input, in pixels.
        channels: 1 or 3.
        mean: of each channel, on the scale 0 to 1.
        std: of each channel, on the same scale.
        crop: whether the source's networks were trained on centre crops of images in their original resolution.

    >>> Transform(2, 1, (0.5,), (0.25,))(torch.full((1, 4, 4), 255, dtype=torch.uint8))
    tensor([[[2., 2.],
             [2., 2.]]])
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: bool = False

    @classmethod
    def of(cls, card: Card) -> Transform:
        """Read the preprocessing of a card.

        Raises:
            ArgumentError: if the card lacks size, channels, mean or std, or they do not fit each other.
        """
        found = card.preprocessing
        mean, std = (tuple(found[key]) if isinstance(found.get(key), list | tuple) else () for key in ("mean", "std"))
        size, channels = found.get("size"), found.get("channels")
        good = type(size) is int and size > 0 and channels in (1, 3) and len(mean) == len(std) == channels
        if not good or not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std):
            raise ArgumentError(
                f"the card of {shown(card.source)} must say how images are prepared ({', '.join(KEYS)}), got "
                f"{shown(dict(found))}; prepare images as those were that its networks were trained on"
            )
        assert isinstance(size, int)
        assert isinstance(channels, int)
        return cls(size, channels, mean, std, crop="centre crop" in card.title)

    @settled()
    def __call__(self, image: Any) -> Tensor:
        """Return the input of one image, float32 (channels, size, size), or of a batch (B, channels, size, size).

        Args:
            image: a PIL image, a uint8 array (H, W), (H, W, channels) or (B, H, W, channels), or a uint8 tensor
                (channels, H, W) or (B, channels, H, W), on any device.

        Raises:
            ArgumentError: if the image has another type, dtype or shape.
        """
        pixels = _pixels(image)  # uint8 (C, H, W) or (B, C, H, W)
        batch = pixels if pixels.ndim == 4 else pixels[None]
        batch = self._resized(_recoloured(batch, self.channels))
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=batch.device).view(-1, 1, 1)  # (C, 1, 1)
            for values in (self.mean, self.std)
        )
        inputs = (batch.float() / 255 - mean) / std
        return inputs if pixels.ndim == 4 else inputs[0]

    def _resized(self, batch: Tensor) -> Tensor:
        """Resize and crop images, uint8 (B, C, H, W), to (B, C, size, size)."""
        height, width = batch.shape[2:]
        shorter = min(height, width)
        if shorter != self.size and not (self.crop and shorter > self.size):
            # at least `size`, whatever the rounding
            sides = [max(self.size, round(side * self.size / shorter)) for side in (height, width)]
            whole = batch if batch.device.type == "cpu" else batch.float()  # GPUs do not resize integers
            if len(batch):
                batch = functional.interpolate(whole, sides, mode="bilinear", antialias=True).round().to(torch.uint8)
            else:
                batch = batch.new_empty(0, batch.shape[1], *sides)
        top, left = (round((side - self.size) / 2) for side in batch.shape[2:])
        return batch[:, :, top : top + self.size, left : left + self.size]


def _pixels(image: Any) -> Tensor:
    """Return the pixels of an image or a batch, uint8 (C, H, W) or (B, C, H, W)."""
    if hasattr(image, "convert") and hasattr(image, "mode"):  # PIL, which need not be installed
        if image.mode not in MODES:
            raise ArgumentError(f"image must have 8 bits in each channel, got a PIL image of mode {shown(image.mode)}")
        image = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    if isinstance(image, np.ndarray):
        _check(image.dtype == np.uint8 and image.ndim in (2, 3, 4), image)
        layered = image[..., None] if image.ndim == 2 else image
        pixels = torch.from_numpy(np.array(np.moveaxis(layered, -1, -3), order="C"))  # channels before pixels
    else:
        _check(isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim in (3, 4), image)
        pixels = image
    _check(pixels.shape[-3] in (1, 3) and min(pixels.shape[-2:]) > 0, image)
    return pixels


def _check(good: bool, image: Any) -> None:
    if not good:
        got = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor | np.ndarray) else type(image).__name__
        raise ArgumentError(f"image must be {FORMS}, got {got}")


def _recoloured(batch: Tensor, channels: int) -> Tensor:
    """Convert images, uint8 (B, 1 or 3, H, W), to the number of channels."""
    if batch.shape[1] == channels:
        return batch
    if channels == 3:
        return batch.expand(-1, 3, -1, -1)
    red, green, blue = (batch[:, c : c + 1].int() * weight for c, weight in enumerate(LUMA))
    return ((red + green + blue + 32768) >> 16).to(torch.uint8)  # 32768 rounds to the nearest integer
