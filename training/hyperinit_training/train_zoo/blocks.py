"""The blocks of a zoo in training: a family, or a few seeds, in a file that is written when they are done.

Letters: D weights per network, S snapshots of a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.machine.run_files import write_json
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.kernels import Floats

SEEDS_PER_BLOCK = 16
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Normalised images ready for training: each entry is float32 (n, C, 28, 28) and int64 (n,)."""

    train: tuple[Floats, Labels]
    val: tuple[Floats, Labels]
    test: tuple[Floats, Labels]


class Trained(NamedTuple):
    """The snapshots of one network (S, D), and the accuracy of each on validation and test images, (S,)."""

    weights: Floats
    val: NDArray[np.float64]
    test: NDArray[np.float64]


def claim(folder: Path, note: dict[str, Any]) -> None:
    """Note what blocks `folder` holds; those of another recipe or network would be taken for this one's.

    Raises:
        ArgumentError: if it holds blocks of something else.
    """
    path = folder / "recipe.json"
    if not path.exists():
        write_json(path, note)
    elif json.loads(path.read_text()) != note:
        raise ArgumentError(f"{folder} holds unfinished work of another recipe; delete it or name another folder")


def blocks_of(recipe: ZooRecipe, folder: Path) -> dict[range, Path]:
    """Return the models of each block, in order, and its file."""
    per_block = recipe.models // recipe.families if recipe.families else SEEDS_PER_BLOCK
    starts = range(0, recipe.models, per_block)
    return {
        range(start, min(start + per_block, recipe.models)): folder / f"{start:06d}.safetensors" for start in starts
    }


def packed(recipe: ZooRecipe, models: range, found: Sequence[Trained]) -> dict[str, Tensor]:
    """Return the tensors of one block's file: weights, and of each the model, family, epoch and scores."""
    epochs = [float(epoch) for epoch in recipe.snapshots] or [float(recipe.epochs)]
    if recipe.families:
        epochs = [float(recipe.epochs + recipe.branch_epochs)]
    rows = [
        (model, models.start // len(models) if recipe.families else model, epoch, val, test)
        for model, (_, vals, tests) in zip(models, found, strict=True)
        for epoch, val, test in zip(epochs, vals, tests, strict=True)
    ]
    weights = torch.from_numpy(np.concatenate([one.weights for one in found]))
    return {"weights": weights, "rows": torch.tensor(rows, dtype=torch.float64)}


def read_block(path: Path) -> dict[str, Tensor]:
    """Read what was written of `packed`.

    Raises:
        ZooError: if the file is damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ZooError(f"{path} is damaged ({error}); delete it, and its networks will be trained again") from None


Blocks = Mapping[range, Path]
Trainer = Callable[[Blocks, Callable[[int], object]], object]  # trains blocks, and says how many networks are done
