"""The names of checkpoint files, networks that lie in several files beside an index, and Git LFS pointers."""

from __future__ import annotations

import re
from pathlib import Path

from hyperinit.errors import ArgumentError, ZooError, one_line
from hyperinit.files.found import POINTED, is_pointer
from hyperinit.files.texts import read_json

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")  # .pth.tar ends in .tar
# The names of an index of transformers: model.safetensors.index.json, pytorch_model.bin.index.fp16.json
INDEX = re.compile(r".+\.(?:safetensors|bin|pt)\.index(?:\.\w+)?\.json")
TWINS = (  # names under which one network is saved in several formats; the first that exists is read
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


def is_index(path: Path) -> bool:
    """Return whether a path names the index of a network that is stored in several files."""
    return INDEX.fullmatch(path.name) is not None


def parts_of(index: Path) -> dict[str, set[str]]:
    """Return the names of the tensors in each part of a network by the part's file name, from its index.

    Raises:
        ZooError: if the index is damaged, or a file that it names is missing or lies in another folder.
    """
    check_pointer(index)
    try:
        data = read_json(index)
    except ArgumentError as error:
        raise ZooError(str(error)) from None
    named = data.get("weight_map") if isinstance(data, dict) else None
    if not (isinstance(named, dict) and named and all(isinstance(name, str) for name in named.values())):
        raise ZooError(f"{one_line(index)} must hold a weight_map from tensors to files, it does not; copy it again")
    parts: dict[str, set[str]] = {}
    for tensor, name in named.items():
        parts.setdefault(name, set()).add(tensor)
    for name in parts:
        if Path(name).name != name or Path(name).suffix not in SUFFIXES:
            raise ZooError(f"{one_line(index)} must name {', '.join(SUFFIXES)} files beside it, got {one_line(name)}")
        if not index.with_name(name).is_file():
            raise ZooError(f"{one_line(index)} must have all its parts beside it, it lacks {one_line(name)}; copy it")
    return parts


def check_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer, the small text that Git stores in place of a large file.

    Raises:
        ZooError: if the file is a pointer.
    """
    if is_pointer(path):
        raise ZooError(f"{one_line(path)} must be the file itself, got {POINTED}")
