"""Files of checkpoints as people have them: which belong to a zoo, and the state dict that lies in each.

Nothing is unpickled but tensors and plain containers.
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
    """List the checkpoints of a zoo by name, sorted by name.

    Args:
        source: a folder, searched with all its subfolders; a glob pattern; or a `.txt` file with one path a line,
            relative to its own folder, where empty lines and lines that start with # do not count.

    Returns:
        Path of each checkpoint by its name, which is its path below the folder that all have in common.

    Raises:
        ArgumentError: if there is no such folder or file.
        ZooError: if a path is listed twice, is missing or is no checkpoint, or there is none at all.

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
    """Read the state dict of one checkpoint, on the CPU, under the names that the bare network gives its tensors.

    A state dict under `state_dict`, `model_state_dict` or `model` is found, and what `DistributedDataParallel`
    (`module.`) and `torch.compile` (`_orig_mod.`) put before or into names is taken off. Zipped torch files are
    mapped into memory, so that an optimizer's state beside the network's is never read.

    Raises:
        ZooError: if the file is cut off, holds objects other than tensors, or no state dict.
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
    """Tell the format of today's torch from that before 1.6, which cannot be mapped into memory."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unreadable(path: Path, error: Exception) -> str:
    """Translate what torch and safetensors say of a file that they cannot read."""
    named = re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and named:
        return (
            f"{path} must hold tensors only, got a pickled {named[1]}, which would run code when read; write it "
            "again with torch.save(model.state_dict(), path), or allow the class with "
            "torch.serialization.add_safe_globals"
        )
    first = str(error).strip().splitlines()[:1]
    return f"{path} cannot be read, it is cut off or damaged: {type(error).__name__}: {''.join(first)[:200]}"


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    """Go down to the state dict and check that it is one."""
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


@lru_cache(maxsize=10_000)  # every file of a zoo has the same names
def bare_name(name: str) -> str:
    """Take off what wrappers add to a tensor's name.

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
