"""A model zoo and its files: `zoo.json` describes it, `weights.safetensors` holds one row of weights per snapshot.

Each file carries a digest of its contents, and `zoo.json` also one of the weights that belong to it. Zoos of earlier
versions have no digests. They load, too, and only the digests that a file has are compared.

Letters: N snapshots, D weights per network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import LayoutError, ZooError, shown
from hyperinit.layout import Layout
from hyperinit.nets import Architecture
from hyperinit_training.machine.run_files import read_record, read_tensors, write_record, write_tensors

SPLITS = ("train", "val", "test")
LEAST_MODELS = 8  # fewest networks that make a zoo
MOST = torch.finfo(torch.float32).max  # of an epoch or a score, which artifacts store in single precision
OLD = (  # fields of zoo.json in versions that wrote no digests
    "layout", "architecture", "snapshots", "images", "preprocessing", "recipe", "varied", "network", "engine", "date",
    "seconds", "diverged",
)  # fmt: skip


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
        for snapshot in self.snapshots:
            _check(snapshot)

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self.snapshots)

    @property
    def scores(self) -> Tensor:
        """Validation accuracies, float32 (N,)."""
        return self.ranked_by("val")

    def ranked_by(self, part: str) -> Tensor:
        """Return accuracies on "val" or "test" images, float32 (N,). Use "test" only to reproduce the released code."""
        return torch.tensor([getattr(s, part) for s in self.snapshots], dtype=torch.float32)

    @property
    def families(self) -> Tensor:
        """Family of every snapshot, int64 (N,)."""
        return torch.tensor([s.family for s in self.snapshots], dtype=torch.int64)

    def part(self, split: str) -> Zoo:
        """Return the snapshots of one split: "train", "val" or "test"."""
        rows = [index for index, s in enumerate(self.snapshots) if s.split == split]
        return replace(self, weights=self.weights[rows], snapshots=tuple(self.snapshots[row] for row in rows))

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write the zoo to `folder`. `half` stores float16, which is enough to train autoencoders on.

        Raises:
            ZooError: if a weight is too large for float16.
            WriteError: if a file cannot be written.
        """
        rounded = self.weights.half()
        if half and not rounded.isfinite().all():
            raise ZooError(f"half must be False for weights above 65504, got one of {self.weights.abs().max():.4g}")
        write_tensors(folder / "weights.safetensors", {"weights": rounded if half else self.weights})
        head = {"layout": self.layout.to_json(), "architecture": self.architecture, **dict(self.provenance)}
        columns = {key: [asdict(s)[key] for s in self.snapshots] for key in Snapshot.__annotations__}
        write_record(folder / "zoo.json", {**head, "weights": _digest(rounded), "snapshots": columns})

    @classmethod
    def load(cls, folder: Path) -> Zoo:
        """Load a zoo from a folder that `save` wrote.

        Raises:
            ZooError: if a file is missing or damaged, the files do not belong together, or a value is not allowed.
        """
        try:
            head = read_record(folder / "zoo.json", old=OLD)
            belonging = head.pop("weights", None)
            weights = read_tensors(folder / "weights.safetensors", old=belonging is None)[0]["weights"].float()
            if belonging is not None and belonging != _digest(weights.half()):
                raise ZooError("its weights are those of another zoo.json")
            layout = Layout.from_json(head.pop("layout"))
            columns = head.pop("snapshots")
            rows = zip(*(columns[key] for key in Snapshot.__annotations__), strict=True)
            snapshots = tuple(Snapshot(*row) for row in rows)
        except FileNotFoundError:
            missing = [name for name in ("zoo.json", "weights.safetensors") if not (folder / name).exists()]
            raise ZooError(
                f"a zoo folder must hold zoo.json and weights.safetensors, {folder} lacks {' and '.join(missing)}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LayoutError) as error:
            kind = "" if isinstance(error, ZooError) else f"{type(error).__name__}: "
            raise ZooError(
                f"{folder} is not a readable zoo: {kind}{error}; train it again, or copy an intact zoo again"
            ) from None
        try:
            return cls(layout, weights, snapshots, head.pop("architecture", None), head)
        except ZooError as error:
            raise ZooError(f"{folder}: {error}. Train the zoo again, or copy an intact zoo again") from None


def _check(snapshot: Snapshot) -> None:
    """Check all that a snapshot becomes in an artifact, so that nothing is trained on what cannot be written."""
    if not all(type(number) is int and abs(number) < 2**63 for number in (snapshot.model, snapshot.family)):
        raise ZooError(f"model and family must be integers, got {shown(snapshot.model)} and {shown(snapshot.family)}")
    if snapshot.split not in SPLITS:
        raise ZooError(f"split must be one of {', '.join(SPLITS)}, got {shown(snapshot.split)}")
    for name, least in (("epoch", 0.0), ("val", -MOST), ("test", -MOST)):
        value = getattr(snapshot, name)
        if not isinstance(value, int | float) or not least <= value <= MOST:  # NaN fails, too
            raise ZooError(
                f"{name} must be a number from {least:.3g} to {MOST:.3g}, got {shown(value)} for model {snapshot.model}"
            )


def _digest(rounded: Tensor) -> str:
    """Return the digest that says which weights (N, D), rounded to float16, belong to a `zoo.json`.

    It is the same for a zoo in half precision, so that a process that is killed between the two files leaves a zoo.
    """
    return hashlib.sha256(rounded.contiguous().view(torch.uint8).numpy().data).hexdigest()


def split_models(models: int, generator: torch.Generator) -> list[str]:
    """Assign models to the splits train, val and test at random, 70 / 15 / 15 % (paper, section 4.1).

    >>> split_models(20, torch.Generator().manual_seed(0)).count("train")
    14
    """
    held = max(1, round(0.15 * models)) if models > 2 else 0
    dealt = ["val"] * held + ["test"] * held + ["train"] * (models - 2 * held)
    return [dealt[index] for index in torch.randperm(models, generator=generator).tolist()]
