"""The blocks that a zoo is trained in, and their files.

A block is one family, or a few seeds. Its file is written when all its networks are trained. A resumed run skips
finished blocks.

Letters: D weights per network, S snapshots of a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.layout import Layout
from hyperinit_training.machine.run_files import read_record, read_tensors, write_record
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.schedules import Floats

SEEDS_PER_BLOCK = 16
NOTE, IMAGES = "recipe.json", "images_digest"  # the record of a folder of blocks, and its field for the images
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Normalised images ready for training: each entry is float32 (n, C, 28, 28) and int64 (n,)."""

    train: tuple[Floats, Labels]
    val: tuple[Floats, Labels]
    test: tuple[Floats, Labels]


@dataclass(frozen=True)
class Job:
    """Everything that an engine needs to train the blocks of a zoo.

    Args:
        recipe: of the zoo.
        data: the images.
        make: makes the network with a given activation. A network with an activation of its own may ignore it.
        layout: of that network.
        device: to train on.
        workers: threads of the compiled engine, or networks side by side of the PyTorch engine. None is the default of
            the engine.
    """

    recipe: ZooRecipe
    data: ImageSet
    make: Callable[[str], nn.Module]
    layout: Layout
    device: torch.device
    workers: int | None = None


Blocks = Mapping[range, Path]  # the models of each block, and its file
Trainer = Callable[[Blocks, Callable[[float], object]], object]  # trains blocks and reports how many networks are done
Engine = Callable[[Job], Trainer]


class Trained(NamedTuple):
    """The snapshots of one network (S, D), and the accuracy of each on validation and test images, (S,)."""

    weights: Floats
    val: NDArray[np.float64]
    test: NDArray[np.float64]


def claim(folder: Path, note: dict[str, Any]) -> None:
    """Record the recipe and the network of the blocks in `folder`, or compare them with what is recorded there.

    Args:
        folder: of the blocks.
        note: the recipe as JSON. For a network other than the paper's CNN also "network", the digest of its layout, and
            "architecture", its description or None. Under IMAGES the digest of the images.

    Raises:
        ArgumentError: if the folder holds blocks of another recipe or network, on other images, or of a version of this
            package that recorded networks in another form.
        ZooError: if the record is damaged, or missing beside blocks.
    """
    path = folder / NOTE
    note = json.loads(json.dumps(note))  # tuples become lists, as in the file
    if not path.exists():
        if any(folder.glob("*.safetensors")):
            raise ZooError(f"{folder} must say in {NOTE} what its networks are, got no such file; delete the folder")
        write_record(path, note)
        return
    try:
        found = read_record(path, old={*note, *(field.name for field in fields(ZooRecipe)), "network", "architecture"})
    except (OSError, ZooError) as error:
        raise ZooError(f"{path} is damaged ({error}); delete {folder} to train its networks again") from None
    if found == note:
        return
    if "network" in note and not re.fullmatch("[0-9a-f]{64}", str(found.get("network", "0" * 64))):
        raise ArgumentError(
            f"{folder} holds unfinished work of an earlier version, which recorded its network in another form; delete "
            "it or name another folder"
        )
    same = {**found, IMAGES: note.get(IMAGES)} == note
    what = "on other images" if same else "of another recipe"
    raise ArgumentError(f"{folder} holds unfinished work {what}; delete it or name another folder")


def family_of(recipe: ZooRecipe, models: range) -> int:
    """Return the number of the family that a block holds; only for a recipe with families.

    >>> family_of(ZooRecipe(images="digits", models=8, families=2), range(4, 8))
    1
    """
    return models.start * recipe.families // recipe.models


def blocks_of(recipe: ZooRecipe, folder: Path) -> dict[range, Path]:
    """Return the file of each block, by its models, in order."""
    per_block = recipe.models // recipe.families if recipe.families else SEEDS_PER_BLOCK
    starts = range(0, recipe.models, per_block)
    return {
        range(start, min(start + per_block, recipe.models)): folder / f"{start:06d}.safetensors" for start in starts
    }


def packed(recipe: ZooRecipe, models: range, found: Sequence[Trained]) -> dict[str, Tensor]:
    """Return the tensors of one block's file.

    Args:
        recipe: of the zoo.
        models: numbers of the networks in the block.
        found: their snapshots and scores, in the same order.

    Returns:
        "weights", float32 (networks * S, D), and "rows", float64 (networks * S, 5): the model, its family, the epoch,
        and the accuracies on validation and test images.
    """
    scores = [pair for one in found for pair in zip(one.val, one.test, strict=True)]
    rows = [(*numbers, *pair) for numbers, pair in zip(_numbers(recipe, models), scores, strict=True)]
    weights = torch.from_numpy(np.concatenate([one.weights for one in found]))
    return {"weights": weights, "rows": torch.tensor(rows, dtype=torch.float64)}


def read_block(path: Path, recipe: ZooRecipe, models: range, size: int) -> dict[str, Tensor]:
    """Read the tensors of a block's file, as `packed` returned them.

    Args:
        path: of the file.
        recipe: of the zoo.
        models: numbers of the networks in the block.
        size: weights per network, D.

    Raises:
        ZooError: if the file is damaged, or is not that of these networks.
    """
    try:
        block = read_tensors(path)[0]
        _check(block, torch.tensor(_numbers(recipe, models), dtype=torch.float64), size)
    except (OSError, ZooError) as error:
        raise ZooError(f"{path} is damaged ({error}); delete it to train its networks again") from None
    return block


def _numbers(recipe: ZooRecipe, models: range) -> list[tuple[int, int, float]]:
    """Return the model, its family and the epoch of every snapshot of a block."""
    epochs = [float(epoch) for epoch in recipe.snapshots] or [float(recipe.epochs)]
    if recipe.families:
        epochs = [float(recipe.epochs + recipe.branch_epochs)]
    families = {model: family_of(recipe, models) if recipe.families else model for model in models}
    return [(model, family, epoch) for model, family in families.items() for epoch in epochs]


def _check(block: Mapping[str, Tensor], numbers: Tensor, size: int) -> None:
    """Compare a block with the numbers (networks * S, 3) that it must have. Weights of diverged networks are NaN."""
    expected = {"weights": (len(numbers), size), "rows": (len(numbers), 5)}
    shapes = {name: tuple(value.shape) for name, value in block.items()}
    if shapes != expected:
        raise ZooError(f"its tensors must have the shapes {expected}, got {shapes}")
    rows = block["rows"]
    if not torch.equal(rows[:, :3], numbers):
        raise ZooError(f"its first model must be {numbers[0, 0]:g} of the recipe, got rows of other snapshots")
    if not ((rows[:, 3:] >= 0) & (rows[:, 3:] <= 1)).all():  # also refuses NaN
        raise ZooError("its accuracies must lie in [0, 1]")
