"""Image data sets as arrays: loading, validation, splits and the preprocessing that the zoos expect.

Letters used for array shapes: n images, C channels, H rows, W columns.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hyperinit.errors import ArgumentError, DataError, UnknownNameError, did_you_mean, unknown
from hyperinit_training.images import formats
from hyperinit_training.images.formats import KEYS

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
SPLITS = ("train", "val", "test")
SEED = 42  # of the split into training and validation images, as in the paper's code
SIDE = 28  # rows and columns of the zoos' images


@dataclass(frozen=True, eq=False)
class Images:
    """One data set: uint8 images (n, C, H, W) and int64 labels (n,) of three splits.

    `mean` and `std` normalise each channel after pixels were scaled to 0..1.
    """

    name: str
    x_train: Pixels
    y_train: Labels
    x_val: Pixels
    y_val: Labels
    x_test: Pixels
    y_test: Labels
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalised(self, split: str) -> tuple[NDArray[np.float32], Labels]:
        """Return the images of a split as float32 (n, C, H, W), normalised by channel, and its labels (n,).

        Raises:
            UnknownNameError: unless `split` is "train", "val" or "test".
        """
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return (x.astype(np.float32) / np.float32(255) - mean) / std, y  # mean, std: (C, 1, 1)

    def subset(self, count: int) -> Images:
        """Keep the first `count` training images in order. The other splits, `mean` and `std` do not change.

        Raises:
            ArgumentError: if there are fewer training images, or `count` is below 1.
        """
        if not 1 <= count <= len(self.x_train):
            raise ArgumentError(f"count must be in 1..{len(self.x_train)}, got {count}")
        return replace(self, x_train=self.x_train[:count], y_train=self.y_train[:count])


@dataclass(frozen=True)
class Rule:
    """The paper's preparation of one data set: share of validation images, normalisation, channels, preprocessing."""

    val_share: float
    mean: tuple[float, ...] | None = None  # None: computed from the training split
    std: tuple[float, ...] | None = None
    channels: int | None = None  # None: any number of channels and any image size
    prepare: Callable[[Pixels], Pixels] | None = None
    side: int = SIDE  # rows and columns after the preprocessing
    files: str = ""  # name of the official files, if it is not that of the data set


def load_images(name: str, data: str | Path | None = None, *, verify: bool = False) -> Images:
    """Load a data set and split validation images off the training images with seed 42.

    The name selects the paper's preprocessing. "svhn" is converted to grey and cropped to 28x28. "cifar10" and "stl10"
    are resized to 28x28. "cifar10-32" is CIFAR-10 in its original size. Images of other names keep their size.

    Args:
        name: "digits" comes with scikit-learn. "mnist", "svhn", "cifar10", "cifar10-32" and "stl10" read the official
            files, which `hyperinit data NAME --data DIR` downloads (of cifar10 for both of its sizes), or an .npz file.
            Any other name needs an .npz file.
        data: folder of the official files, a folder with a subfolder called `name`, or an .npz file. The .npz file
            has x_train, y_train, x_test and y_test: uint8 images (n, C, H, W), (n, H, W, C) or (n, H, W), and integer
            labels (n,).
        verify: first compare the official files with their published digests.

    Returns:
        uint8 images (n, C, H, W) and int64 labels (n,) of the three splits, with the mean and std for normalisation.

    Raises:
        UnknownNameError: if `name` is unknown and `data` is not an .npz file.
        ArgumentError: if `verify` is set for images without published digests.
        DataError: if files are missing, damaged, or do not hold images and their labels.

    Source: split, sizes and normalisation from Schürholt et al. 2022, arXiv:2209.14733, Table 7 and released code.

    >>> digits = load_images("digits")
    >>> digits.x_train.shape, digits.x_val.shape, digits.x_test.shape
    ((1197, 1, 28, 28), (200, 1, 28, 28), (400, 1, 28, 28))
    """
    path = None if data is None else Path(data)
    is_npz = path is not None and path.suffix == ".npz"
    if not is_npz and name not in RULES:
        near = did_you_mean(name, RULES)
        hint = f"{near + ' ' if near else ''}Choose from {', '.join(RULES)}, or pass your own images "
        hint += "as an .npz file: data='FILE.npz' in Python, --data FILE.npz on the command line."
        raise UnknownNameError(f"unknown images {name!r}; {hint}")
    if verify and (is_npz or name == "digits"):
        raise ArgumentError(f"verify=True needs official files, which have published digests, got {path or name}")
    if path is not None and is_npz:
        return _split(name, RULES.get(name, Rule(1 / 6)), _read_npz(path))
    if name == "digits":
        if path is not None:
            raise DataError(
                f"data must be left out or an .npz file for digits, which come with scikit-learn, got {path}"
            )
        return _split(name, RULES[name], _read_digits())
    return _split(name, RULES[name], formats.read(RULES[name].files or name, path, verify=verify))


def _split(name: str, rule: Rule, arrays: dict[str, NDArray[np.generic]]) -> Images:
    """Validate and preprocess the images, and split the training images as torch's `random_split` does."""
    x_train, x_test = (_prepared(arrays[f"x_{s}"], rule, f"{name} x_{s}") for s in ("train", "test"))
    y_train, y_test = (_labels(arrays[f"y_{s}"], len(arrays[f"x_{s}"]), name) for s in ("train", "test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{name} x_train and x_test must have images of one shape, got {x_train.shape} and {x_test.shape}"
        )
    val = round(len(x_train) * rule.val_share)
    if not 0 < val < len(x_train):
        raise DataError(f"{name} x_train must have enough images for training and validation, got {len(x_train)}")
    order = torch.randperm(len(x_train), generator=torch.Generator().manual_seed(SEED)).numpy()  # as `random_split`
    train, held = order[: len(order) - val], order[len(order) - val :]
    mean, std = rule.mean, rule.std
    if mean is None or std is None:
        mean, std = _moments(x_train[train], name)
    return Images(name, x_train[train], y_train[train], x_train[held], y_train[held], x_test, y_test, mean, std)


def _labels(y: NDArray[np.generic], count: int, name: str) -> Labels:
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise DataError(f"{name} must have one integer label for each of {count} images, got {y.dtype} {y.shape}")
    if y.min() < 0 or (name in RULES and y.max() > 9):
        raise DataError(f"{name} must have labels {'in 0..9' if name in RULES else '>= 0'}, got {y.min()}..{y.max()}")
    return y.astype(np.int64)


def _prepared(x: NDArray[np.generic], rule: Rule, what: str) -> Pixels:
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(f"{what} must be uint8 (n, C, H, W), (n, H, W, C) or (n, H, W), n > 0, got {x.dtype} {x.shape}")
    if x.ndim == 4 and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)  # (n, H, W, C) -> (n, C, H, W)
    pixels: Pixels = np.array(x, np.uint8, order="C").reshape(len(x), -1, *x.shape[-2:])  # (n, H, W) gets C = 1
    if rule.prepare is not None:
        pixels = rule.prepare(pixels)
    if rule.channels and pixels.shape[1:] != (rule.channels, rule.side, rule.side):
        want = f"(n, {rule.channels}, {rule.side}, {rule.side})"
        raise DataError(f"{what} must have shape {want} after preprocessing, got {x.shape} before it")
    if pixels.shape[1] not in (1, 3):
        raise DataError(f"{what} must have 1 or 3 channels, got {x.shape}")
    return pixels


def _moments(x: Pixels, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, with pixels scaled to 0..1.

    They are computed from counts of the 256 levels, so there is no rounding error of a long float sum.
    """
    level = np.arange(256) / 255
    shares = [np.bincount(x[:, c].ravel(), minlength=256) / x[:, c].size for c in range(x.shape[1])]
    mean = [float(share @ level) for share in shares]
    std = [float(np.sqrt(share @ (level - m) ** 2)) for share, m in zip(shares, mean, strict=True)]
    if min(std) == 0:
        raise DataError(f"{name} must vary in every channel, got standard deviations {std}")
    return tuple(mean), tuple(std)


def _grey_crop(x: Pixels) -> Pixels:
    """Convert to ITU-R 601 luma in Pillow's integer arithmetic, and crop the central 28x28 pixels."""
    if x.shape[1] == 3:
        red, green, blue = (x[:, c : c + 1].astype(np.uint32) for c in range(3))
        # Weights 0.299, 0.587, 0.114 times 2**16; 32768 rounds to the nearest integer.
        x = ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(np.uint8)
    top, left = (round((size - SIDE) / 2) for size in x.shape[2:])
    return x[:, :, top : top + SIDE, left : left + SIDE].copy()


def _resize(x: Pixels) -> Pixels:
    """Resize larger images to 28x28, bilinear with antialiasing. Return other images unchanged."""
    if min(x.shape[2:]) < SIDE or x.shape[2:] == (SIDE, SIDE):
        return x
    small = functional.interpolate(torch.from_numpy(x), (SIDE, SIDE), mode="bilinear", antialias=True)
    return np.asarray(small.numpy(), np.uint8)


RULES = {
    "digits": Rule(200 / 1397),  # 1,197 + 200
    "mnist": Rule(1 / 6, (0.1307,), (0.3081,), 1),  # 50,000 + 10,000
    "svhn": Rule(13257 / 73257, (0.5,), (0.5,), 1, _grey_crop),  # 60,000 + 13,257
    "cifar10": Rule(8 / 50, (0.5,) * 3, (0.5,) * 3, 3, _resize),  # 42,000 + 8,000
    "stl10": Rule(800 / 5000, (0.5,) * 3, (0.5,) * 3, 3, _resize),  # 4,200 + 800
    "cifar10-32": Rule(  # 45,000 + 5,000 in the original size; mean and std of its training images
        5 / 50, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 3, side=32, files="cifar10"
    ),
}


def _read_digits() -> dict[str, NDArray[np.generic]]:
    """Read scikit-learn's 1,797 handwritten digits, resize 8x8 to 28x28 pixels, and hold out 400 for testing."""
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) * (255 / 16)  # levels 0..16 -> 0..255
    x = functional.interpolate(small, (SIDE, SIDE), mode="bilinear", antialias=False).round().byte().numpy()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED)).numpy()
    x, y = x[order], y[order]
    return {"x_train": x[:-400], "y_train": y[:-400], "x_test": x[-400:], "y_test": y[-400:]}


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: file[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        want = f"must be a readable .npz file with {', '.join(KEYS)}"
        raise DataError(f"{path} {want}, got {type(error).__name__}: {error}") from None
