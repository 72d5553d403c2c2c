"""Find the checkpoint files of a zoo, and read the state dict of each file.

Only tensors and plain containers are unpickled.
"""

from __future__ import annotations

import glob
import os
import pickle
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hyperinit.errors import ArgumentError, ZooError

SUFFIXES = (".safetensors", ".pt", ".pth")
NESTED = ("state_dict", "model_state_dict", "model")  # keys under which training loops store the state dict


def find_files(source: str | Path) -> dict[str, Path]:
    """Return the paths of a zoo's checkpoints by name, sorted by name.

    Args:
        source: a folder, which is searched recursively; a glob pattern; or a `.txt` file with one path a line,
            relative to the file's folder. Empty lines and lines that start with # are ignored.

    Returns:
        Path of each checkpoint by its name. The name is its path relative to the common parent folder.

    Raises:
        ArgumentError: if `source` is no folder, glob pattern or `.txt` file.
        ZooError: if a listed path is repeated, is missing or has another suffix, or if no checkpoint is found.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.pt", "a.safetensors", "notes.md"):
    ...     (folder / name).touch()
    >>> list(find_files(folder))
    ['a.safetensors', 'b.pt']
    """
    place = Path(source)
    if place.is_dir():
        root, found = place, [path for path in place.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    elif place.is_file() and place.suffix == ".txt":
        found = _listed(place)
        root = _common(found)
    elif glob.has_magic(str(source)):
        found = [Path(path) for path in glob.glob(str(source), recursive=True) if path.endswith(SUFFIXES)]
        root = _common(found)
    else:
        raise ArgumentError(
            f"a zoo must be given as a folder, a glob pattern or a .txt file of paths, got {str(source)!r}"
            f"{'' if place.exists() else ', which does not exist'}"
        )
    if not found:
        raise ZooError(f"{source} must hold {', '.join(SUFFIXES)} files, got none")
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in found))


def _listed(place: Path) -> list[Path]:
    lines = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
    found = [place.parent / line for line in lines if line and not line.startswith("#")]
    seen = set()
    for path in found:
        if not path.is_file() or path.suffix not in SUFFIXES:
            raise ZooError(f"{place} must list {', '.join(SUFFIXES)} files, got {path}{_absent(path)}")
        if path.resolve() in seen:
            raise ZooError(f"{place} must list every file once, got {path} again")
        seen.add(path.resolve())
    return found


def _absent(path: Path) -> str:
    return "" if path.exists() else ", which does not exist"


def _common(paths: list[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of one checkpoint to the CPU, with the tensor names of the unwrapped network.

    The state dict may be nested under `state_dict`, `model_state_dict` or `model`. The prefixes of
    `DistributedDataParallel` (`module.`) and `torch.compile` (`_orig_mod.`) are removed from names. Zipped torch files
    are memory-mapped, so the state of an optimizer in the same file is not read.

    Raises:
        ZooError: if the file is truncated or damaged, holds objects other than tensors, or holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zipped(path))
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise ZooError(_unreadable(path, error)) from None
    return _bare_names(_state_dict(found, path), path)


def _is_zipped(path: Path) -> bool:
    """Return whether a file has the zip format of torch >= 1.6. The older format cannot be memory-mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unreadable(path: Path, error: Exception) -> str:
    """Make the message for a file that torch or safetensors failed to read."""
    named = re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and named:
        return (
            f"{path} must hold tensors only, got a pickled {named[1]}, which would run code when read; write it "
            "again with torch.save(model.state_dict(), path), or allow the class with "
            "torch.serialization.add_safe_globals"
        )
    first = str(error).strip().splitlines()[:1]
    return f"{path} cannot be read because it is truncated or damaged: {type(error).__name__}: {''.join(first)[:200]}"


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    """Find the nested state dict, and validate it."""
    while inner := next((found[key] for key in NESTED if _holds(found, key)), None):
        found = inner
    if not isinstance(found, Mapping):
        raise ZooError(f"{path} must hold a state dict, got a {type(found).__name__}")
    other = {key: value for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))}
    if other or not found:
        key, value = next(iter(other.items()), ("nothing", None))
        raise ZooError(
            f"{path} must hold a state dict, at the top or under {', '.join(NESTED)}, "
            f"got {f'a {type(value).__name__} under {key!r}' if other else 'an empty one'}"
        )
    return dict(found)


def _holds(found: Any, key: str) -> bool:
    return isinstance(found, Mapping) and isinstance(found.get(key), Mapping)


@lru_cache(maxsize=10_000)  # all files of a zoo have the same names
def bare_name(name: str) -> str:
    """Remove the prefixes that wrappers add to a tensor's name.

    >>> bare_name("module._orig_mod.conv.weight"), bare_name("head._orig_mod.bias")
    ('conv.weight', 'head.bias')
    """
    return re.sub(r"^(module\.)+", "", re.sub(r"(^|\.)_orig_mod\.", r"\1", name))


def _bare_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    bare: dict[str, Tensor] = {}
    for name, value in state.items():
        short = bare_name(name)
        if short in bare:
            raise ZooError(f"{path} must hold every tensor once, got {short} with and without a prefix")
        bare[short] = value
    return bare
