"""Find the checkpoint files of a zoo, and leave out the files that training loops and hyperinit write beside them."""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hyperinit.checkpoints.parts import SUFFIXES, TWINS, check_pointer, is_index, parts_of
from hyperinit.errors import ArgumentError, ZooError, listed, one_line
from hyperinit.files.found import POINTER
from hyperinit.files.texts import read_text
from hyperinit_training.machine.run_files import DIGEST

SHARED = (".ckpt", ".bin", ".tar")  # suffixes that other programs use for other formats
PART = re.compile(r"(.+?)(\.\w+)?-\d+-of-\d+(\.\w+)")  # such as model-00001-of-00002.safetensors
# The files of optimizers, schedules and random generators that trainers write beside a network.
BESIDE = re.compile(
    r"(?:optim(?:izer)?|(?:lr_)?sched(?:uler)?|(?:grad_)?scaler|sampler|rng_states?|random_states?|training_args)"
    r"(?:[-_]?\d+)*(?:\.\w+){1,2}|.*_optim_states\.pt"
)


@dataclass(frozen=True)
class Files:
    """The checkpoints of a zoo.

    Args:
        paths: path of each checkpoint by its name, sorted by name. A network in several files has the path of its
            index.
        left_out: why other files were left out, by their names.
    """

    paths: dict[str, Path]
    left_out: dict[str, str]


def find_files(source: str | Path) -> Files:
    """Find a zoo's checkpoints.

    Args:
        source: a folder, which is searched recursively; a glob pattern; or a `.txt` file with one path a line,
            relative to the file's folder. Empty lines and lines that start with # are ignored.

    Returns:
        The checkpoints. A name is the path relative to the common parent folder.

    Raises:
        ArgumentError: if `source` is no folder, glob pattern or `.txt` file, or cannot be read.
        ZooError: if a listed path is repeated, is missing or has another suffix, or if no checkpoint is found.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.pt", "a.safetensors", "optimizer.pt", "notes.md"):
    ...     (folder / name).touch()
    >>> find_files(folder)  # doctest: +ELLIPSIS
    Files(paths={'a.safetensors': ...}, left_out={'optimizer.pt': 'state of a training'})
    """
    place = Path(source)
    try:
        root, found = _candidates(place, str(source))
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError | ZooError):
            raise
        reason = f"{error.strerror} for {one_line(error.filename)}" if isinstance(error, OSError) else error
        raise ArgumentError(f"{one_line(source)} must be a zoo that can be read, got: {reason}") from None
    kept, out = _sorted_out(found)
    if not kept:
        others = f"none but {listed(sorted(path.name for path in out), 3)}" if out else "none"
        raise ZooError(f"{one_line(source)} must hold {', '.join(SUFFIXES)} files, got {others}")
    root = root or Path(os.path.commonpath([path.parent for path in kept]))
    return Files(
        dict(sorted((path.relative_to(root).as_posix(), path) for path in kept)),
        dict(sorted((os.path.relpath(path, root), why) for path, why in out.items())),
    )


def _candidates(place: Path, source: str) -> tuple[Path | None, list[Path]]:
    """Return the root of the names, or None, and all files whose names are those of checkpoints."""
    if place.is_dir():
        walked = os.walk(place, onerror=_cannot_list)
        return place, [Path(root, name) for root, _, names in walked for name in names if _named(Path(root, name))]
    if place.is_file() and place.suffix == ".txt":
        return None, _listed(place)
    if glob.has_magic(source):
        return None, [path for path in map(Path, dict.fromkeys(_globbed(source, set()))) if _named(path)]
    raise ArgumentError(
        f"a zoo must be given as a folder, a glob pattern or a .txt file of paths, got {source!r}"
        f"{'' if place.exists() else ', which does not exist'}"
    )


def _cannot_list(error: OSError) -> None:
    raise error


def _named(path: Path) -> bool:
    """Return whether a path names a file that may be a checkpoint."""
    if not (path.suffix in SUFFIXES or is_index(path)) or not path.is_file():
        return False
    return path.suffix not in SHARED or _of_torch(path)


def _of_torch(path: Path) -> bool:
    """Return whether a file begins like one of `torch.save`, is a Git LFS pointer, or is empty."""
    with path.open("rb") as file:
        start = file.read(40)
    return not start or start.startswith((b"PK\x03\x04", b"\x80", POINTER))


def _listed(place: Path) -> list[Path]:
    check_pointer(place)
    lines = [line.strip() for line in read_text(place).splitlines()]
    found = [place.parent / line for line in lines if line and not line.startswith("#")]
    seen = set()
    for path in found:
        if not path.is_file() or not (path.suffix in SUFFIXES or is_index(path)):
            absent = "" if path.exists() else ", which does not exist"
            raise ZooError(f"{place} must list {', '.join(SUFFIXES)} files, got {one_line(path)}{absent}")
        if path.resolve() in seen:
            raise ZooError(f"{place} must list every file once, got {one_line(path)} again")
        seen.add(path.resolve())
    return found


def _globbed(pattern: str, done: set[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the paths that match a pattern. `**` enters each folder once, so links in a circle come to an end."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    place = parts.index("**")
    tail = parts[place:]
    while tail and tail[0] == "**":
        tail = tail[1:]
    head = str(Path(*parts[:place]))
    for top in glob.glob(head) if glob.has_magic(head) else [head]:
        for folder in _folders(top):
            if (key := (os.path.realpath(folder), tail)) not in done:
                done.add(key)
                yield from _globbed(os.path.join(glob.escape(folder), *(tail or ["*"])), done)


def _folders(top: str) -> Iterator[str]:
    """Yield a folder and all folders in it, each once. Folders come before links to them."""
    ahead, links, seen = deque([top] if os.path.isdir(top) else []), deque[str](), set()
    while ahead or links:
        folder = (ahead or links).popleft()
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:
            continue
        seen.add((place.st_dev, place.st_ino))
        yield folder
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if not entry.name.startswith(".") and entry.is_dir():
                (links if entry.is_symlink() else ahead).append(entry.path)


def _sorted_out(found: Iterable[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Split files into checkpoints, with an index in place of its parts, and others, each with a reason."""
    out: dict[Path, str] = {}
    kept: dict[Path, None] = {}
    for path in found:
        if why := _why_other(path):
            out[path] = why
        else:
            kept[_index_of(path) or path] = None
    for index in [path for path in kept if is_index(path)]:
        for name in parts_of(index):
            kept.pop(index.parent / name, None)
    for path in list(kept):
        twins = [path.with_name(name) for name in TWINS] if path.name in TWINS else [path]
        if (first := next(twin for twin in twins if twin in kept)) != path:
            out[path] = f"the same network as {first.name}"
    return [path for path in kept if path not in out], out


def _why_other(path: Path) -> str:
    """Say why a file is no checkpoint; empty if it is one."""
    if path.name.startswith("._") or "__MACOSX" in path.parts:
        return "metadata of macOS"
    if BESIDE.fullmatch(path.name):
        return "state of a training"
    if path.suffix == ".safetensors" and _is_ours(path):
        return "written by hyperinit"
    return ""


def _is_ours(path: Path) -> bool:
    """Return whether hyperinit wrote a safetensors file: an artifact, an ensemble, or a file of a run or of a zoo."""
    if path.name == "weights.safetensors" and path.with_name("zoo.json").is_file():
        return True
    try:
        with safe_open(path, "pt") as file:
            keys = {*(file.metadata() or {})}
    except (OSError, ValueError, SafetensorError):
        return False  # damaged: reading it says so
    return bool(keys & {"hyperinit", "hyperinit-ensemble", DIGEST})


def _index_of(path: Path) -> Path | None:
    """Return the index of a part of a network, if it lies beside it."""
    named = PART.fullmatch(path.name)
    if named is None:
        return None
    stem, variant, suffix = named[1], named[2] or "", named[3]
    names = (f"{stem}{variant}{suffix}.index.json", f"{stem}{suffix}.index{variant}.json")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
