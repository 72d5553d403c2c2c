"""A file that was found for a source, and safe ways to look at a path that a user gave."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"  # first bytes of a Git LFS pointer
POINTER_SIZE = 1024  # bytes that a pointer has at most
POINTED = "a Git LFS pointer in place of the file; run `git lfs pull` in its repository"


@dataclass(frozen=True)
class Found:
    """The file of a source. Two are equal if path and digest are.

    Args:
        path: of the file on this machine.
        digest: SHA-256 in hexadecimal that the file has; None for a path of the user's, of which no digest is known.
        name: in a registry, or of the file; for messages.

    >>> Found(Path("a.safetensors"), None, "a") == Found(Path("a.safetensors"), None, "b")
    True
    """

    path: Path
    digest: str | None
    name: str = field(compare=False)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` expanded; it stays as it is if there is no such user or no home folder.

    >>> expanded("~nosuchuser/a")
    PosixPath('~nosuchuser/a')
    """
    return Path(os.path.expanduser(path))


def is_file(path: Path) -> bool:
    """Tell whether a path is a regular file; also for names that are too long, and in folders that cannot be read."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_pointer(path: Path) -> bool:
    """Tell whether a file is a Git LFS pointer: a short text that stands for a file that was not fetched."""
    try:
        return is_file(path) and contents(path, POINTER_SIZE).startswith(POINTER)
    except OSError:
        return False


def contents(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file that has at most `most` of them.

    Raises:
        OSError: if it cannot be read, is no regular file, or is larger.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # before open, which waits at a pipe
        raise OSError("it must be a regular file")
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise OSError(f"it must have at most {most:,} bytes, it has more")
    return raw
