"""Read a zoo of checkpoints of any architecture into one matrix of weights.

Letters: N networks, D values per network.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.checkpoints.layout import Shapes, StateLayout, differences
from hyperinit.checkpoints.state_dicts import Taken, take
from hyperinit.errors import ArgumentError, LayoutError, ZooError, listed, one_line
from hyperinit_training.checkpoints.files import PART, find_files
from hyperinit_training.checkpoints.scores import match_scores, read_scores
from hyperinit_training.zoo.zoo import LEAST_MODELS, MOST

Factory = Callable[[], nn.Module]
Evaluation = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Origin:
    """The place of a network in its file, as `state_dicts.Taken` describes it."""

    key: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()


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
        origins: N places of the networks in their files; empty if they come from no files.
        other_files: why other files of the folder were not read, by their names.
    """

    layout: StateLayout
    weights: Tensor
    names: tuple[str, ...]
    digests: tuple[str, ...]
    scores: Tensor | None = None
    epochs: Tensor | None = None
    skipped: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    other_files: Mapping[str, str] = field(default_factory=dict)

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

        Each evaluation gets a module of its own.

        Raises:
            LayoutError: if the network that `model` makes cannot hold the weights.
            ZooError: if the evaluation fails or returns no finite number. The message names the file.
        """
        module = build(model)
        pairs = zip(self.names, self.weights, strict=True)
        scores = [score_of(evaluate, self.layout.write_(own_copy(module, model), row), name) for name, row in pairs]
        return replace(self, scores=torch.tensor(scores, dtype=torch.float32))


def build(model: Factory) -> nn.Module:
    """Make a network without advancing torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return model()


def own_copy(module: nn.Module, model: Factory) -> nn.Module:
    """Return a copy for one evaluation, which may change its module: fuse layers, halve weights, remove hooks.

    A module that cannot be copied, such as one with hooks of a C extension, is made again.
    """
    try:
        return copy.deepcopy(module)
    except Exception:  # user code may raise anything
        return build(model)


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
    except (Exception, SystemExit) as error:  # user code may raise anything, and may call sys.exit
        raise ZooError(
            f"evaluate must give a number for every network, got {type(error).__name__} for {name}: {error}"
        ) from error
    if not math.isfinite(score):
        raise ZooError(f"evaluate must give a finite number for every network, got {score} for {name}")
    if abs(score) > MOST:
        raise ZooError(f"evaluate must give a number of at most {MOST:.3g} for every network, got {score} for {name}")
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
    _check_count(len(files.paths), source, files.left_out)
    listed = Path(scores) if scores is not None else Path(source) / "scores.csv"
    known = evaluate is None and (scores is not None or listed.is_file())
    table = read_scores(listed) if known else None
    found = replace(_read(files.paths, model, skip_bad=skip_bad), other_files=files.left_out)
    _check_count(len(found), source)
    if table is not None:
        values, epochs = match_scores(table, found.names, found.skipped, listed)
        found = replace(found, scores=values, epochs=epochs)
    return found.evaluated(model, evaluate) if model and evaluate else found


def _check_count(count: int, source: str | Path, left_out: Iterable[str] = ()) -> None:
    if count < LEAST_MODELS:
        others = f"; other files were not read: {listed(left_out, 5)}" if left_out else ""
        raise ZooError(f"a zoo must have at least {LEAST_MODELS} networks, got {count} in {one_line(source)}{others}")


def _read(files: Mapping[str, Path], model: Factory | None, *, skip_bad: bool) -> Checkpoints:
    """Read each file directly into its row of one matrix."""
    paths = list(files.values())
    layout = StateLayout.of_module(build(model)) if model else _layout_of(paths[0])
    try:
        weights = torch.empty(len(paths), layout.size, dtype=torch.float32, device="cpu")
    except (RuntimeError, MemoryError):
        gigabytes = 4 * len(paths) * layout.size / 1e9
        raise ZooError(f"a zoo must fit into memory, it takes {gigabytes:.1f} GB in single precision") from None
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
        origins=tuple(found[row].origin for row in kept),
    )  # fmt: skip


def _layout_of(path: Path) -> StateLayout:
    try:
        return StateLayout.of(take(path).alone().tensors)
    except LayoutError as error:
        raise LayoutError(f"{one_line(path)}: {error}") from None


@dataclass(frozen=True)
class _Row:
    """The shapes of one file, the digest of its row, and the name of its first tensor with NaN or infinity, if any."""

    shapes: Shapes
    origin: Origin
    digest: str = ""
    bad: str = ""


def _read_row(path: Path, layout: StateLayout, row: Tensor) -> _Row:
    """Read one file into its row. A file with another layout leaves the row unset."""
    taken: Taken = take(path).fitted(layout, path)
    origin = Origin(taken.key, taken.prefix, taken.left_out)
    state = layout.select(taken.tensors)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != layout.shapes:
        return _Row(shapes, origin)
    parts = layout.views(row)
    for name, value in state.items():
        if value.is_complex():
            raise ZooError(f"{one_line(path)} must hold real tensors, got {value.dtype} in {name}")
        try:
            parts[name].copy_(value)
        except RuntimeError as error:  # no conversion from a rare dtype
            raise ZooError(f"{one_line(path)} must hold numbers, got {value.dtype} in {name}: {error}") from None
    bad = "" if row.isfinite().all() else next(name for name, part in parts.items() if not part.isfinite().all())
    return _Row(shapes, origin, hashlib.sha256(row.numpy().data).hexdigest(), bad)


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
        part = "; it looks like a part of a network whose index is missing" if PART.fullmatch(path.name) else ""
        raise LayoutError(f"{path} must hold {whose}, got {differences(found, wanted)}{others}{more}{part}")
