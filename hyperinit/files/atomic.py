"""Writes files in one step, so that a reader finds the complete old or new file, and computes digests of files."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from hyperinit.errors import LONGEST, HyperinitError, WriteError
from hyperinit.files import temporary as names


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`. After the block the file written to it replaces `path`.

    After an error in the block the temporary file is deleted and `path` is unchanged. Missing folders are made. The
    finished file has mode 644, as `open` gives with the usual umask, and is on the disk: a power failure leaves the
    old or the new file. Temporary files that killed processes left in the folder are deleted.

    Raises:
        WriteError: if the file cannot be written, for example on a full disk.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     temporary.write_text("whole")
    5
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    # A folder of our own: also what libraries write beside the temporary file is deleted, or left in one place by a
    # kill. It lies in the same folder as `path`, because os.replace is atomic only within one file system.
    path = Path(path)
    with writing(path):
        own = names.beside(path)
        if path.exists() and not path.is_file():  # os.replace would put a file in place of /dev/null
            raise WriteError(f"{path} must be a file or a new path, got a folder or a device; choose another path")
        if len(path.parts) > 1 and path.parts[0].startswith("~"):
            raise WriteError(f"{path} must be a path without ~, which is not expanded here; write the home folder out")
        path.parent.mkdir(parents=True, exist_ok=True)
        names.sweep(path.parent)
        try:
            own.mkdir()
            temporary = own / "new"  # no ending: a search for networks must not find it
            yield temporary
            temporary.chmod(0o644)
            settle(temporary, path)
        finally:
            names.delete(own)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the disk in the block into a WriteError that names `path`; our own errors pass unchanged.

    Raises:
        WriteError: for an OSError, or an error of safetensors.
    """
    try:
        yield
    except HyperinitError:
        raise
    except (OSError, SafetensorError, UnicodeEncodeError) as error:  # a path that cannot be encoded, too
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        remedy = "free some disk space" if full else "choose a path that can be written"
        reason = (getattr(error, "strerror", None) or str(error))[:LONGEST]
        raise WriteError(f"{path} cannot be written, got: {reason}; {remedy}") from None


def settle(temporary: Path, path: Path) -> None:
    """Rename a finished file to its name. File and name are on the disk afterwards.

    Raises:
        OSError: if the file cannot be written to the disk or renamed.
    """
    _sync(temporary)
    os.replace(temporary, path)
    with suppress(OSError):  # the file is complete; some systems cannot open folders
        _sync(path.parent)


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file in hexadecimal.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> path.write_text("whole")
    5
    >>> digest(path, "md5")
    '356c9ee60e9da05301adc3bd96f6b383'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without fsync
            raise
    finally:
        os.close(handle)
