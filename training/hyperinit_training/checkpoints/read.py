"""Read a zoo of checkpoints of any architecture into one matrix of weights.

Letters: N networks, D values per network.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit_training.checkpoints.files import find_files, read_state
from hyperinit_training.checkpoints.layout import Shapes, StateLayout, differences
from hyperinit_training.checkpoints.scores import match_scores, read_scores
from hyperinit_training.zoo.zoo import LEAST_MODELS

Factory = Callable[[], nn.Module]
Evaluation = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Checkpoints:
    """Networks of one architecture, read from files.

    Args:
        layout: the tensors of a row, in the order of the network's state dict. Without a network it is the order of
            the first file.
        weights: float32 (N, D), one row per network, parameters and buffers.
        names: N names of files, sorted.
        digests: N SHA-256 digests of the rows, in hexadecimal.
        scores: float32 (N,), higher is better; None if unknown.
        epochs: float32 (N,); None if unknown.
        skipped: names of files that were left out because they hold NaN or infinity.
    """

    layout: StateLayout
    weights: Tensor
    names: tuple[str, ...]
    digests: tuple[str, ...]
    scores: Tensor | None = None
    epochs: Tensor | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return N, the number of networks."""
        return len(self.names)

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of files with equal rows, by name."""
        groups = defaultdict(list)
        for name, digest in zip(self.names, self.digests, strict=True):
            groups[digest].append(name)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def evaluated(self, model: Factory, evaluate: Evaluation) -> Checkpoints:
        """Return a copy whose scores are `evaluate(module)` of every network in evaluation mode.

        Raises:
            ZooError: if the evaluation fails or returns no finite number. The message names the file.
        """
        module = build(model)
        pairs = zip(self.names, self.weights, strict=True)
        scores = [score_of(evaluate, self.layout.write_(module, row), name) for name, row in pairs]
        return replace(self, scores=torch.tensor(scores))


def build(model: Factory) -> nn.Module:
    """Make a network without advancing torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return model()


@torch.no_grad()
def score_of(evaluate: Evaluation, module: nn.Module, name: str) -> float:
    """Return the user's score of one network in evaluation mode.

    Raises:
        ZooError: if the evaluation fails or returns no finite number.
        OSError: as the evaluation raised it.
    """
    try:
        score = float(evaluate(module.eval()))
    except OSError:
        raise  # a missing data set is not the fault of the checkpoint
    except Exception as error:  # user code may raise anything
        raise ZooError(
            f"evaluate must give a number for every network, got {type(error).__name__} for {name}: {error}"
        ) from error
    if not math.isfinite(score):
        raise ZooError(f"evaluate must give a finite number for every network, got {score} for {name}")
    return score


def read_checkpoints(
    source: str | Path,
    *,
    model: Factory | None = None,
    scores: str | Path | None = None,
    evaluate: Evaluation | None = None,
    skip_bad: bool = False,
) -> Checkpoints:
    """Read a zoo of checkpoints into one matrix.

    Peak memory is one copy of the zoo in float32 plus one checkpoint.

    Args:
        source: a folder, a glob pattern or a `.txt` file of paths, see `files.find_files`.
        model: makes the network. If given, the names, shapes and buffers are those of its state dict.
        scores: a `.csv` or `.json` file of scores, see `scores.read_scores`. Default: the file `scores.csv` in the
            folder, if it exists and `evaluate` is not given.
        evaluate: returns the score of a network, higher is better; requires `model`.
        skip_bad: skip networks with NaN or infinity instead of raising.

    Raises:
        ArgumentError: if `source` does not exist, or if `evaluate` is given without `model` or with `scores`.
        LayoutError: if the tensors of a file differ from those of the network, or from those of most files.
        ZooError: if a file cannot be read, a value is not finite, a score is missing, or fewer than 8 networks remain.
    """
    if evaluate is not None and (model is None or scores is not None):
        raise ArgumentError(f"evaluate needs a model and no scores, got {'both' if model else 'no model'}")
    files = find_files(source)
    _check_count(len(files), source)
    listed = Path(scores) if scores is not None else Path(source) / "scores.csv"
    known = evaluate is None and (scores is not None or listed.is_file())
    table = read_scores(listed) if known else None
    found = _read(files, model, skip_bad=skip_bad)
    _check_count(len(found), source)
    if table is not None:
        values, epochs = match_scores(table, found.names, found.skipped, listed)
        found = replace(found, scores=values, epochs=epochs)
    return found.evaluated(model, evaluate) if model and evaluate else found


def _check_count(count: int, source: str | Path) -> None:
    if count < LEAST_MODELS:
        raise ZooError(f"a zoo must have at least {LEAST_MODELS} networks, got {count} in {source}")


def _read(files: Mapping[str, Path], model: Factory | None, *, skip_bad: bool) -> Checkpoints:
    """Read each file directly into its row of one matrix."""
    paths = list(files.values())
    layout = StateLayout.of_module(build(model)) if model else StateLayout.of(read_state(paths[0]))
    weights = torch.empty(len(paths), layout.size)
    # No threads: on a busy machine they took up to 30 times as long for small files, and 0.7 times for large files.
    found = [_read_row(path, layout, row) for path, row in zip(paths, weights, strict=True)]
    _check_layouts(paths, [row.shapes for row in found], layout.shapes if model else None)
    bad = [(path, row.bad) for path, row in zip(paths, found, strict=True) if row.bad]
    if bad and not skip_bad:
        named = ", ".join(f"{path} ({tensor})" for path, tensor in bad[:5])
        raise ZooError(
            f"every value must be finite, got NaN or infinity in {len(bad)} of {len(paths)} networks: "
            f"{named}{', ...' if bad[5:] else ''}; pass skip_bad=True to skip them"
        )
    names = list(files)
    kept = [index for index, row in enumerate(found) if not row.bad]
    for index, row in enumerate(kept):  # in place, since a second copy of the zoo may not fit
        weights[index] = weights[row]
    return Checkpoints(
        layout, weights[: len(kept)], tuple(names[row] for row in kept), tuple(found[row].digest for row in kept),
        skipped=tuple(name for name, row in zip(names, found, strict=True) if row.bad),
    )  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """The shapes of one file, the digest of its row, and the name of its first tensor with NaN or infinity, if any."""

    shapes: Shapes
    digest: str = ""
    bad: str = ""


def _read_row(path: Path, layout: StateLayout, row: Tensor) -> _Row:
    """Read one file into its row. A file with another layout leaves the row unset."""
    state = layout.select(read_state(path))
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != layout.shapes:
        return _Row(shapes)
    parts = layout.unflatten(row)
    for name, value in state.items():
        if value.is_complex():
            raise ZooError(f"{path} must hold real tensors, got {value.dtype} in {name}")
        parts[name].copy_(value)
    bad = "" if row.isfinite().all() else next(name for name, part in parts.items() if not part.isfinite().all())
    return _Row(shapes, hashlib.sha256(row.numpy().data).hexdigest(), bad)


def _check_layouts(paths: list[Path], shapes: list[Shapes], wanted: Shapes | None) -> None:
    """Raise if a file's shapes differ from those of the network, or without a network from those of most files."""
    whose = "the network's tensors"
    if wanted is None:
        keys = [frozenset(each.items()) for each in shapes]
        key, count = Counter(keys).most_common(1)[0]
        wanted = shapes[keys.index(key)]
        whose = f"the tensors that {count} of the {len(paths)} files have"
    odd = [(path, each) for path, each in zip(paths, shapes, strict=True) if each != wanted]
    if odd:
        path, found = odd[0]
        others = f"; other files differ, too: {', '.join(str(p) for p, _ in odd[1:4])}" if odd[1:] else ""
        more = f" and {len(odd) - 4} more" if odd[4:] else ""
        raise LayoutError(f"{path} must hold {whose}, got {differences(found, wanted)}{others}{more}")
