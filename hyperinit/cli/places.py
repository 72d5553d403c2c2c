"""Checks the places that a command writes to, before it does any work, and puts the system's errors in words."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hyperinit.errors import ArgumentError, one_line

ENDING = ".safetensors"
LONGEST = 255  # bytes of a name that file systems take
FILES = {  # endings of files; a folder of such a name is a mistake
    ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".npy", ".h5", ".onnx", ".zip", ".tar", ".gz",
    ".json", ".jsonl", ".toml", ".csv", ".txt",
}  # fmt: skip


def check_file(out: Path, *, force: bool, option: str = "--out") -> None:
    """Check that a .safetensors file can be written.

    Args:
        out: the file.
        force: whether an existing file may be replaced.
        option: that the file was given by, for messages.

    Raises:
        ArgumentError: if the name has another ending or control characters, the file exists and `force` is not set, or
            the folder cannot be written.
    """
    _check_name(out, option)
    if out.suffix != ENDING:
        raise ArgumentError(f"{option} must end in {ENDING}, got {one_line(out)}")
    if out.is_dir():
        raise ArgumentError(f"{option} must be a file, got the folder {one_line(out)}")
    if (out.exists() or out.is_symlink()) and not force:
        raise ArgumentError(
            f"{option} must be a new file, got {one_line(out)}, which exists; pass --force to replace it"
        )
    _check_folder_of(out, option)


def check_folder(out: Path, *, option: str = "--out") -> None:
    """Check that a folder exists or can be made, and that files can be written into it.

    Raises:
        ArgumentError: if the name is one of a file, the path is a file, or it cannot be written.
    """
    _check_name(out, option)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{option} must be a folder, got the file {one_line(out)}")
    if out.suffix.lower() in FILES and not out.is_dir():
        raise ArgumentError(f"{option} must be a folder, got {one_line(out)}, which has the ending of a file")
    _check_folder_of(out / "0", option)


def check_room(out: Path, size: int, option: str = "--out") -> None:
    """Check that the disk has room for some bytes.

    Raises:
        ArgumentError: with the number of bytes that are needed and that are free.
    """
    free = shutil.disk_usage(_existing(out.absolute())).free
    if size > free:
        raise ArgumentError(
            f"{option} must lie on a disk with {size:,} bytes free, got {free:,}; free space or choose another place"
        )


def reason(error: Exception) -> str:
    """Return the system's words for an error.

    >>> reason(OSError(28, "No space left on device", "/tmp/a"))
    'No space left on device: /tmp/a'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {one_line(error.filename)}" if error.filename is not None else "")
    return one_line(error)


def _check_name(path: Path, option: str) -> None:
    if one_line(path.name) != path.name:
        raise ArgumentError(f"{option} must be a name without control characters, got {one_line(path.name)}")
    if any(len(os.fsencode(part)) > LONGEST for part in path.parts) or "\0" in str(path):
        raise ArgumentError(f"{option} must have names of at most {LONGEST} bytes, got {one_line(path)[:80]}...")


def _check_folder_of(path: Path, option: str) -> None:
    try:
        # Beside the file and with its name, as it is written later: the name may be too long.
        with tempfile.NamedTemporaryFile(dir=_existing(path.absolute().parent), prefix=path.name, suffix=".part"):
            pass
    except OSError as error:
        raise ArgumentError(
            f"{option} must lie in a folder that can be written, got {one_line(path)}: {error.strerror}"
        ) from None


def _existing(folder: Path) -> Path:
    """Return the nearest parent folder that exists."""
    return folder if folder.exists() else _existing(folder.parent)
