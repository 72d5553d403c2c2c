"""Read tables of checkpoints' scores and epochs, and match them to the checkpoints."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from hyperinit.errors import ZooError

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
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows: Any = list(csv.DictReader(file, skipinitialspace=True))
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
        else:
            raise ZooError(f"scores must be a .csv or .json file, got {path}")
    except FileNotFoundError:
        raise ZooError(f"scores must be a .csv or .json file, got {path}, which does not exist") from None
    except (OSError, ValueError, csv.Error) as error:
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
    except (TypeError, ValueError):
        raise ZooError(f"{path} must give a number as {what}, got {value!r}") from None


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
        ZooError: if the table names an unknown checkpoint or lacks one, or if a score is not finite.
    """
    known = [*names, *skipped]
    if unknown := [name for name in table if name not in set(known)]:
        near = get_close_matches(unknown[0], known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ZooError(f"{path} must name checkpoints of the zoo, got {_some(unknown)}{hint}")
    if missing := [name for name in names if name not in table]:
        raise ZooError(f"{path} must give a score for every checkpoint, it lacks {_some(missing)}")
    if bad := [name for name in names if not math.isfinite(table[name][0])]:
        raise ZooError(f"{path} must give finite scores, got {table[bad[0]][0]} for {_some(bad)}")
    epochs = [epoch for name in names if (epoch := table[name][1]) is not None]
    scores = torch.tensor([table[name][0] for name in names])
    return scores, torch.tensor(epochs) if len(epochs) == len(names) else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
