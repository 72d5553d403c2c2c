"""The cache folder of downloaded files: HYPERINIT_HOME, or the system's folder for caches.

The names of its files begin with 16 hexadecimal digits of a SHA-256 and a hyphen. Such a file is complete, unless it
is a download in progress, whose name ends in `.part`. It may be deleted at any time. `clear` deletes no other files.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from hyperinit.errors import ArgumentError, WriteError
from hyperinit.files import temporary
from hyperinit.files.atomic import digest
from hyperinit.files.found import expanded, is_file

OURS = re.compile(r"[0-9a-f]{16}-.+")

_spare: dict[int, Path] = {}  # temporary folder in place of the cache, by process id: a fork must not share it


def path() -> Path:
    """Return the path of the cache folder, which may not exist yet.

    Without a home folder it still begins with `~`, and `writable` gives a temporary folder in its place.
    """
    if home := os.environ.get("HYPERINIT_HOME"):
        found = expanded(home)
        return found if found.parts[0].startswith("~") else found.absolute()
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("hyperinit"))
    except RuntimeError:  # newer versions refuse to answer without a home folder
        return Path("~/.cache/hyperinit")


def entries() -> list[Path]:
    """Return the files of the cache folder, including downloads in progress.

    Raises:
        ArgumentError: if the folder cannot be read.
    """
    try:
        return sorted(file for file in path().iterdir() if OURS.fullmatch(file.name) and is_file(file))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _no_folder(error) from None


def clear() -> int:
    """Delete the files that `entries` lists, and temporary folders of killed processes; return the number of files.

    Raises:
        ArgumentError: if the folder cannot be read or written.
    """
    found = entries()
    try:
        for file in found:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise _no_folder(error) from None
    if found:
        _sweep(path())
    return len(found)


def name(sha256: str, file: str) -> str:
    """Return the cache's name for a file with this digest.

    >>> name("0123456789abcdef" * 4, "my net.safetensors")
    '0123456789abcdef-my_net.safetensors'
    """
    return f"{sha256[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', file)[-100:]}"


def find(name: str) -> Path | None:
    """Return the file with this name, or None; its contents are not checked."""
    for folder in (path(), _spare.get(os.getpid())):
        if folder and is_file(folder / name):
            return folder / name
    return None


def good(name: str, sha256: str, size: int | None = None) -> Path | None:
    """Return the file with this name if it has this digest and, unless it is None, this size."""
    file = find(name)
    return file if file and holds(file, sha256, size) else None


def holds(file: Path, sha256: str, size: int | None = None) -> bool:
    """Tell whether a file has this digest and size. It is read again only if it is another file or was changed.

    The time of the last change of status is compared, too, since a writer can set the time of the last write back.
    A file that cannot be read has no digest.
    """
    try:
        stat = file.stat()
        version = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
        return size in (None, stat.st_size) and _digest(file, version) == sha256
    except OSError:
        return False


def writable() -> Path:
    """Return the folder to write files to: the cache folder or, if it cannot be written, a temporary one.

    The temporary folder belongs to this process; the first use of it gives a RuntimeWarning. In the cache folder,
    downloads that killed processes left are deleted.

    Raises:
        WriteError: if no temporary folder can be written either.
    """
    folder = path()
    try:
        if not folder.is_absolute():
            raise OSError("there is no home folder")  # `~` was not expanded; do not make a folder of that name
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # os.access is wrong on read-only and some network file systems
    except OSError as error:
        return _spare_folder(folder, error)
    _sweep(folder)
    return folder


@contextmanager
def incoming(name: str) -> Iterator[Path]:
    """Give a temporary path in the cache. The caller renames the file; otherwise it is deleted after the block."""
    own = temporary.beside(writable() / name)
    try:
        yield own
    finally:
        temporary.delete(own)


def _no_folder(error: OSError) -> ArgumentError:
    reason = error.strerror or error
    return ArgumentError(f"HYPERINIT_HOME must be a folder that can be read and written, got {path()}: {reason}")


def _sweep(folder: Path) -> None:
    for part in folder.glob("*.part*"):
        if OURS.fullmatch(part.name) and temporary.is_abandoned(part):
            temporary.delete(part)


def _spare_folder(folder: Path, error: OSError) -> Path:
    """Return this process's temporary folder, made at the first call and deleted at exit."""
    process = os.getpid()
    if process not in _spare:
        try:
            _spare[process] = Path(tempfile.mkdtemp(prefix="hyperinit-"))
        except OSError as other:
            raise WriteError(
                f"the cache folder {folder} cannot be written ({error}), and no temporary folder ({other}); "
                "set HYPERINIT_HOME to a folder that can be written"
            ) from None
        atexit.register(_remove_spare, process, _spare[process])
        warnings.warn(
            f"the cache folder {folder} cannot be written ({error}), so downloads are kept only until this "
            "process ends; set HYPERINIT_HOME to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
    return _spare[process]


def _remove_spare(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a fork inherits the exit handler, but its parent still needs the folder
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=64)
def _digest(file: Path, version: tuple[int, ...]) -> str:
    return digest(file)
