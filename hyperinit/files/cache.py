"""The folder of downloaded files: HYPERINIT_HOME, or the place that the system has for caches.

All names begin with 16 hexadecimal digits of a SHA-256 and a hyphen. What has such a name is whole, may be deleted at
any time, and is all that `clear` deletes. A file in progress ends in `.part`.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from hyperinit.files.atomic import digest

OURS = re.compile(r"[0-9a-f]{16}-.+")
ABANDONED = 24 * 3600  # seconds after which a file in progress belongs to nobody

_spare: dict[int, Path] = {}  # temporary folder by process


def path() -> Path:
    """Return the cache folder, which need not exist."""
    if home := os.environ.get("HYPERINIT_HOME"):
        return Path(home).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("hyperinit"))


def entries() -> list[Path]:
    """Return the files of the cache folder, those in progress included."""
    if not path().is_dir():
        return []
    return sorted(file for file in path().iterdir() if OURS.fullmatch(file.name) and file.is_file())


def clear() -> int:
    """Delete the files of the cache folder and return how many there were; other files stay."""
    found = entries()
    for file in found:
        file.unlink(missing_ok=True)
    return len(found)


def name(sha256: str, file: str) -> str:
    """Return the name in the cache of a file with this digest.

    >>> name("0123456789abcdef" * 4, "my net.safetensors")
    '0123456789abcdef-my_net.safetensors'
    """
    return f"{sha256[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', file)[-100:]}"


def find(name: str) -> Path | None:
    """Return the file of this name, or None; what it holds is not checked."""
    for folder in (path(), _spare.get(os.getpid())):
        if folder and (folder / name).is_file():
            return folder / name
    return None


def good(name: str, sha256: str, size: int | None = None) -> Path | None:
    """Return the file of this name if it has this digest, and this size where one is given."""
    file = find(name)
    return file if file and holds(file, sha256, size) else None


def holds(file: Path, sha256: str, size: int | None = None) -> bool:
    """Tell whether a file has this digest and size; it is read once for as long as it does not change."""
    stat = file.stat()
    return size in (None, stat.st_size) and _digest(file, stat.st_mtime_ns, stat.st_size) == sha256


def writable() -> Path:
    """Return the folder to put files in, after a look for what killed processes left there.

    It is the cache folder or, if that cannot be written, a temporary folder of this process, with a RuntimeWarning.
    """
    folder = path()
    try:
        if not folder.is_absolute():
            raise OSError("there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return _spare_folder(folder, error)
    _sweep(folder)
    return folder


@contextmanager
def incoming(name: str) -> Iterator[Path]:
    """Give a path in the cache for a file whose digest is not known yet; what still lies there in the end goes."""
    temporary = writable() / f"{name}.{secrets.token_hex(4)}.part"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for part in folder.glob("*.part*"):
        if OURS.fullmatch(part.name) and part.exists() and time.time() - part.stat().st_mtime > ABANDONED:
            part.unlink(missing_ok=True)


def _spare_folder(folder: Path, error: OSError) -> Path:
    process = os.getpid()
    if process not in _spare:
        _spare[process] = Path(tempfile.mkdtemp(prefix="hyperinit-"))
        atexit.register(_remove_spare, process, _spare[process])
        warnings.warn(
            f"the cache folder {folder} cannot be written ({error}), so downloads last as long as this process; "
            "set HYPERINIT_HOME to a folder that can be",
            RuntimeWarning,
            stacklevel=2,
        )
    return _spare[process]


def _remove_spare(process: int, folder: Path) -> None:
    if os.getpid() == process:  # not in a process that was forked off
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=64)
def _digest(file: Path, modified: int, size: int) -> str:
    return digest(file)
