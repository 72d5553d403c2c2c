"""A model zoo and its files: `zoo.json` describes it, `weights.safetensors` holds one row of weights per snapshot.

Letters: N snapshots, D weights per network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hyperinit.errors import LayoutError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import Architecture
from hyperinit_training.machine.run_files import write_json, write_tensors

SPLITS = ("train", "val", "test")
LEAST_MODELS = 8  # fewest networks that make a zoo


@dataclass(frozen=True)
class Snapshot:
    """One model at one epoch.

    Args:
        model: number of the model in the zoo.
        family: number of its ancestor. Models that were trained from different seeds have different families.
        epoch: epochs of training, including those of the ancestor.
        split: "train", "val" or "test" part of the zoo, the same for all snapshots of a model.
        val: accuracy on validation images, 0 to 1. The "top 30 %" of anchors are ranked by it.
        test: accuracy on test images, 0 to 1. It is reported, and never used for selection.
    """

    model: int
    family: int
    epoch: float
    split: str
    val: float
    test: float


@dataclass(frozen=True)
class Zoo:
    """A population of trained networks of one architecture.

    Args:
        layout: the tensors of each network.
        weights: float32 (N, D), one row per snapshot.
        snapshots: N entries.
        architecture: how to build the network, see `hyperinit.nets`; None if only the layout is known.
        provenance: recipe, images, code version, date and time spent.
    """

    layout: Layout
    weights: Tensor
    snapshots: tuple[Snapshot, ...]
    architecture: Architecture | None
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Validate that there is one row per snapshot, and that every weight is finite."""
        if self.weights.shape != (len(self.snapshots), self.layout.size):
            raise ZooError(
                f"weights must have shape {(len(self.snapshots), self.layout.size)}, one row for each snapshot in "
                f"zoo.json, got {tuple(self.weights.shape)}; a model is missing or zoo.json belongs to another file"
            )
        bad = [s.model for s, row in zip(self.snapshots, self.weights, strict=True) if not row.isfinite().all()]
        if bad:
            raise ZooError(f"every weight must be finite, got NaN or infinity in model {', '.join(map(str, bad[:10]))}")

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self.snapshots)

    @property
    def scores(self) -> Tensor:
        """Validation accuracies, float32 (N,)."""
        return self.ranked_by("val")

    def ranked_by(self, part: str) -> Tensor:
        """Return accuracies on "val" or "test" images, float32 (N,). Use "test" only to reproduce the released code."""
        return torch.tensor([getattr(s, part) for s in self.snapshots])

    @property
    def families(self) -> Tensor:
        """Family of every snapshot, int64 (N,)."""
        return torch.tensor([s.family for s in self.snapshots])

    def part(self, split: str) -> Zoo:
        """Return the snapshots of one split: "train", "val" or "test"."""
        rows = [index for index, s in enumerate(self.snapshots) if s.split == split]
        return replace(self, weights=self.weights[rows], snapshots=tuple(self.snapshots[row] for row in rows))

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write the zoo to `folder`. `half` stores float16, which is enough to train autoencoders on."""
        weights = self.weights.half() if half else self.weights
        write_tensors(folder / "weights.safetensors", {"weights": weights})
        head = {"layout": self.layout.to_json(), "architecture": self.architecture, **dict(self.provenance)}
        columns = {key: [asdict(s)[key] for s in self.snapshots] for key in Snapshot.__annotations__}
        write_json(folder / "zoo.json", {**head, "snapshots": columns})

    @classmethod
    def load(cls, folder: Path) -> Zoo:
        """Load a zoo from a folder that `save` wrote.

        Raises:
            ZooError: if a file is missing or damaged, the number of rows is wrong, or a weight is not finite.
        """
        try:
            head = json.loads((folder / "zoo.json").read_text())
            weights = load_file(folder / "weights.safetensors")["weights"].float()
            layout = Layout.from_json(head.pop("layout"))
            columns = head.pop("snapshots")
            rows = zip(*(columns[key] for key in Snapshot.__annotations__), strict=True)
            snapshots = tuple(Snapshot(*row) for row in rows)
        except FileNotFoundError:
            missing = [name for name in ("zoo.json", "weights.safetensors") if not (folder / name).exists()]
            raise ZooError(
                f"a zoo folder must hold zoo.json and weights.safetensors, {folder} lacks {' and '.join(missing)}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, LayoutError) as error:
            raise ZooError(
                f"{folder} is not a readable zoo: {type(error).__name__}: {error}; train it again, or "
                "copy an intact zoo again"
            ) from None
        try:
            return cls(layout, weights, snapshots, head.pop("architecture", None), head)
        except ZooError as error:
            raise ZooError(f"{folder}: {error}. Train the zoo again, or copy an intact zoo again") from None


def split_models(models: int, generator: torch.Generator) -> list[str]:
    """Assign models to the splits train, val and test at random, 70 / 15 / 15 % (paper, section 4.1).

    >>> split_models(20, torch.Generator().manual_seed(0)).count("train")
    14
    """
    held = max(1, round(0.15 * models)) if models > 2 else 0
    dealt = ["val"] * held + ["test"] * held + ["train"] * (models - 2 * held)
    return [dealt[index] for index in torch.randperm(models, generator=generator).tolist()]
