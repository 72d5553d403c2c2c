"""Files of a training run, each written as a whole. What a resumed run trusts carries a digest of its contents.

`write_tensors` and `write_record` store a SHA-256, and `read_tensors` and `read_record` compare it. So a file that was
altered, or that lost a part, is an error and never another result.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyperinit.errors import ZooError
from hyperinit.files import headers
from hyperinit.files.atomic import replacing, writing

DIGEST = "digest"  # the field of a record, or of a tensor file's metadata, with the digest of all the rest


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: write a temporary file beside the target, then rename it.

    Raises:
        WriteError: if the file cannot be written. An older file of this name is unchanged then.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically, for readers who do not trust it.

    Raises:
        WriteError: as `write_text`.
    """
    write_text(path, json.dumps(data, indent=1) + "\n")


def write_record(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a digest of its contents.

    Raises:
        WriteError: as `write_text`.
    """
    plain = json.loads(json.dumps(data))  # as it is read: tuples become lists, and keys become text
    write_json(path, {DIGEST: headers.digest(plain, {}), **plain})


def read_record(path: Path, *, old: Collection[str] = ()) -> dict[str, Any]:
    """Read a JSON object that `write_record` wrote, and compare its digest.

    Args:
        path: of the file.
        old: fields that a file of an earlier version may have, which has no digest. Without a digest no other field is
            allowed, because the field of a digest can be damaged, too.

    Raises:
        FileNotFoundError: if there is no such file.
        ZooError: if the file is damaged.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{type(error).__name__}: {error}") from None
    if not isinstance(data, dict):
        raise ZooError(f"it must hold a JSON object, got {type(data).__name__}")
    found = data.pop(DIGEST, None)
    if found is None and old and data.keys() <= {*old}:
        return data
    _compare(found, data, {})
    return data


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with a digest of tensors and metadata.

    Raises:
        WriteError: as `write_text`.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    words = dict(metadata or {})
    words[DIGEST] = headers.digest(words, plain)
    with replacing(path) as temporary:
        save_file(plain, temporary, words)


def read_tensors(path: Path, *, old: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata from a file that `write_tensors` wrote, and compare their digest.

    Args:
        path: of the file.
        old: accept a file without a digest, which an earlier version wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ZooError: if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise ZooError(f"{type(error).__name__}: {error}") from None
    found = metadata.pop(DIGEST, None)
    if found is not None or not old:
        _compare(found, metadata, tensors)
    return tensors, metadata


def _compare(found: object, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if found is None:
        raise ZooError("it holds no digest of its contents; it is damaged, or an earlier version wrote it")
    if found != headers.digest(data, tensors):
        raise ZooError("its contents do not match its digest")


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose names begin with `prefix`, and remove it from their names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer state as tensors named `INDEX.NAME`, where INDEX is the position of the parameter."""
    states = optimizer.state_dict()["state"].items()
    return {f"{index}.{name}": value for index, state in states for name, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the state that `optimizer_tensors` returned. The parameter groups keep their options."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def append_json(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line to a JSON-lines log.

    Raises:
        WriteError: if the file cannot be written.
    """
    with writing(path), path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def truncate_log(path: Path, step: int) -> None:
    """Remove the lines after `step` from a log, because a resumed run writes them again. No file is a no-op.

    Raises:
        WriteError: if the file cannot be read or written.
    """
    with writing(path):
        if not path.exists():
            return
        text = path.read_bytes().decode("utf-8", "replace")  # a damaged line is left out below
    write_text(path, "".join(f"{line}\n" for line in text.split("\n") if _step_of(line) <= step))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # an incomplete line, left by a killed run
