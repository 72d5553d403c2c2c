"""Loads a source once in a process, and lists sources and methods."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hyperinit.checkpoints.parts import SUFFIXES, TWINS, is_index
from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError, shown
from hyperinit.files.found import Found, expanded, is_file, is_pointer
from hyperinit.files.headers import check_length
from hyperinit.hub import address
from hyperinit.hub import sources as hub_sources
from hyperinit.representation import HyperRepresentation

Source = str | Path | HyperRepresentation
DEFAULT_SOURCE = "svhn"
OURS = {"hyperinit", "hyperinit-ensemble"}  # headers of this package's own files
MORE = "; source= of init_, ensemble and plan also takes a module, a state dict, a checkpoint file or a list of them"


def load(source: Source = DEFAULT_SOURCE, *, offline: bool | None = None) -> HyperRepresentation:
    """Load a hyper-representation.

    A file is read once in a process, and all calls share the result, so do not change its tensors. A
    `HyperRepresentation` is returned unchanged.

    Args:
        source: a name from `sources()`, the path of an artifact, "https://...#sha256=HEX" or
            "hf://org/repo/path/file.safetensors@revision"; see docs/hub.md.
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does; embedded and cached files are found. None asks
            HYPERINIT_OFFLINE.

    Raises:
        UnknownNameError: if there is no such source.
        ArgumentError: if an argument is of another type, or an address is malformed or lacks a digest.
        DownloadError: if the file is not on this machine and cannot be downloaded.
        ArtifactError: if its file is missing or damaged.

    >>> load("digits").layout.size
    2464
    """
    if isinstance(source, HyperRepresentation):
        return source
    if not isinstance(source, str | Path):
        raise ArgumentError(f"source must be a name, a path or a HyperRepresentation, got {shown(source)}{MORE}")
    if not isinstance(offline, bool | None):
        raise ArgumentError(f"offline must be True, False or None, got {shown(offline)}")
    try:
        found = hub_sources.find(source, offline=offline)
        found = replace(found, path=found.path.resolve())
        stat = found.path.stat()
        # the time of the last change of status, too, since a writer can set the time of the last write back
        return _load(found, (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size))
    except (ArtifactError, UnknownNameError) as error:
        if checkpoint(source) is None:
            raise
        raise type(error)(f"{error}{MORE}") from None


def checkpoint(source: str | Path) -> Path | None:
    """Return the checkpoint file that a path leads to, or None if it is a name, an address, an artifact or no file.

    A folder as transformers writes it leads to its `model.safetensors` or to the other files of `TWINS`.

    >>> checkpoint("digits")
    """
    if isinstance(source, str) and address.parse(source) is not None:
        return None
    path = expanded(source)
    try:
        if path.is_dir():
            files = [path / name for name in TWINS if is_file(path / name)]
            bare = isinstance(source, str) and "/" not in source and os.sep not in source
            return None if not files or (bare and source in hub_sources.available()) else files[0]
    except (OSError, ValueError):
        return None
    if not is_file(path) or not (path.suffix in SUFFIXES or is_index(path)):
        return None
    return None if path.suffix == address.ENDING and _is_ours(path) else path


def _is_ours(path: Path) -> bool:
    """Return whether `load` should read a safetensors file, or say what is wrong with it."""
    if is_pointer(path):
        return True
    try:
        check_length(path)
        with safe_open(path, "pt") as file:
            return bool(OURS & {*(file.metadata() or {})})
    except (OSError, ValueError, SafetensorError, ArtifactError):
        return True


def sources() -> dict[str, str]:
    """Return the embedded sources and those that HYPERINIT_REGISTRY lists: one line of description by name.

    Raises:
        DownloadError: if HYPERINIT_REGISTRY is set and its index cannot be downloaded.

    >>> "digits" in sources()
    True
    """
    return hub_sources.available()


def methods(source: Source = DEFAULT_SOURCE) -> dict[str, str]:
    """Return the methods by which a source can sample: one line by name, with the measured accuracy.

    Args:
        source: as for `init_`.

    Raises:
        As `load`.

    >>> "kde30" in methods("digits")
    True
    """
    return load(source).methods()


@lru_cache(maxsize=8)
def _load(found: Found, version: tuple[int, ...]) -> HyperRepresentation:
    """Read a file; the cache returns the same object until another file is there, or the file was changed."""
    return HyperRepresentation.read(found)
