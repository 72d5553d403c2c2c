"""Read tables of checkpoints' scores and epochs, and match them to the checkpoints."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from hyperinit.checkpoints.parts import check_pointer
from hyperinit.errors import ArgumentError, ZooError, did_you_mean, listed, shown
from hyperinit.files.texts import read_json, read_text
from hyperinit_training.zoo.zoo import MOST

Table = dict[str, tuple[float, float | None]]


def read_scores(path: Path) -> Table:
    """Read the score (higher is better) and epoch of each checkpoint, by name.

    Args:
        path: a `.csv` file with the columns `file`, `score` and optionally `epoch`; or a `.json` file with a list of
            objects with these keys. Other columns are ignored.

    Raises:
        ZooError: if the file is missing, has another format, or names a checkpoint twice.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp(), "scores.csv")
    >>> _ = place.write_text("file,score,epoch\\na.pt,0.9,3\\n")
    >>> read_scores(place)
    {'a.pt': (0.9, 3.0)}
    """
    try:
        if path.suffix not in (".csv", ".json") or not path.exists():
            absent = "" if path.exists() else ", which does not exist"
            raise ZooError(f"scores must be a .csv or .json file, got {path}{absent}")
        check_pointer(path)
        if path.suffix == ".json":
            rows: Any = read_json(path)
        else:
            rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True))
    except ArgumentError as error:
        raise ZooError(str(error)) from None
    except (OSError, csv.Error) as error:
        raise ZooError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    return _table(rows, path)


def _table(rows: Any, path: Path) -> Table:
    table: Table = {}
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        if not isinstance(row, Mapping) or not {"file", "score"} <= row.keys():
            got = ", ".join(map(str, row)) if isinstance(row, Mapping) else repr(row)
            raise ZooError(f"{path} must give file and score in every row, got {got} in row {number}")
        name = PurePosixPath(str(row["file"]).replace("\\", "/")).as_posix()
        if name in table:
            raise ZooError(f"{path} must name every checkpoint once, got {name} again in row {number}")
        epoch = row.get("epoch")
        table[name] = (
            _number(row["score"], path, f"a score for {name}"),
            None if epoch in (None, "") else _number(epoch, path, f"an epoch for {name}"),
        )
    return table


def _number(value: Any, path: Path, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # an integer of JSON may have any number of digits
        raise ZooError(f"{path} must give a number as {what}, got {shown(value)}") from None


def match_scores(
    table: Table, names: Sequence[str], skipped: Iterable[str], path: Path
) -> tuple[Tensor, Tensor | None]:
    """Return scores and epochs in the order of the checkpoints.

    Args:
        table: from `read_scores`.
        names: names of N checkpoints.
        skipped: names of checkpoints that were left out. The table may contain them, but need not.
        path: file of the table, for messages.

    Returns:
        Scores, float32 (N,), and epochs, float32 (N,), or None if a checkpoint has none.

    Raises:
        ZooError: if the table names an unknown checkpoint or lacks one, or if a score or an epoch is out of range.
    """
    known = [*names, *skipped]
    table = {_whole_name(name, known): row for name, row in table.items()}
    if unknown := [name for name in table if name not in set(known)]:
        near = did_you_mean(unknown[0], known)
        raise ZooError(f"{path} must name checkpoints of the zoo, got {listed(unknown, 5)}{'; ' if near else ''}{near}")
    if missing := [name for name in names if name not in table]:
        raise ZooError(f"{path} must give a score for every checkpoint, it lacks {listed(missing, 5)}")
    if bad := [name for name in names if not math.isfinite(table[name][0])]:
        raise ZooError(f"{path} must give finite scores, got {table[bad[0]][0]} for {listed(bad, 5)}")
    if bad := [name for name in names if abs(table[name][0]) > MOST]:
        raise ZooError(f"{path} must give scores of at most {MOST:.3g}, got {table[bad[0]][0]} for {listed(bad, 5)}")
    if bad := [name for name in names if not 0 <= (table[name][1] or 0) <= MOST]:  # NaN fails the comparison, too
        raise ZooError(f"{path} must give epochs from 0 to {MOST:.3g}, got {table[bad[0]][1]} for {listed(bad, 5)}")
    epochs = [epoch for name in names if (epoch := table[name][1]) is not None]
    scores = torch.tensor([table[name][0] for name in names], dtype=torch.float32)
    return scores, torch.tensor(epochs, dtype=torch.float32) if len(epochs) == len(names) else None


def _whole_name(name: str, known: Sequence[str]) -> str:
    """Return the name of the one checkpoint in a folder if `name` is that folder, such as `checkpoint-500`."""
    inside = [] if name in known else [other for other in known if other.startswith(f"{name}/")]
    return inside[0] if len(inside) == 1 else name
