"""One training at a time in a folder: a second one would overwrite the files of the first."""

from __future__ import annotations

import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hyperinit.errors import ArgumentError
from hyperinit.files.atomic import writing
from hyperinit_training.machine import processes

NAME = ".lock"

_held: dict[Path, list[int]] = {}  # folders locked by this process: thread, and how often it locked the folder
_guard = threading.Lock()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs, and create it if needed. The same thread may lock it again inside.

    The system releases the lock of a killed process. The processes of one `torchrun` job share one lock, which the
    first of them holds.

    Raises:
        ArgumentError: if another process or thread trains in the folder.
        WriteError: if the folder cannot be written.
    """
    if not processes.is_first():
        yield
        return
    with writing(folder / NAME):
        folder.mkdir(parents=True, exist_ok=True)
        key = folder.resolve()
    if not _entered(key, folder):
        try:
            yield
        finally:
            with _guard:
                _held[key][1] -= 1
        return
    try:
        with _exclusive(key / NAME, folder):
            yield
    finally:
        with _guard:
            del _held[key]


def _entered(key: Path, folder: Path) -> bool:
    """Note that this thread locks a folder. Return False if it holds the lock already."""
    thread = threading.get_ident()
    with _guard:
        if key not in _held:
            _held[key] = [thread, 1]
            return True
        if _held[key][0] != thread:
            raise _in_use(folder)
        _held[key][1] += 1
        return False


@contextmanager
def _exclusive(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock file for this process alone, and delete it afterwards.

    SQLite locks files on every system in that system's way, and such a lock ends with its process.
    """
    while True:
        with writing(path):
            mine = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        # Closing any handle of a file ends this process's lock on it, so `mine` stays open until the end.
        lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            _acquire(lock, folder)
            # The holder before may have deleted the file after it was opened here: then lock the new file.
            if path.exists() and os.path.samestat(os.fstat(mine), path.stat()):
                try:
                    yield
                finally:
                    with suppress(OSError):  # Windows keeps an open file; it is empty and does no harm
                        path.unlink()
                return
        finally:
            lock.close()
            os.close(mine)


def _acquire(lock: sqlite3.Connection, folder: Path) -> None:
    try:
        lock.execute("PRAGMA journal_mode=MEMORY")  # writes no second file
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            raise _in_use(folder) from None
        warnings.warn(
            f"{folder} cannot be locked ({error}), so nothing stops a second training in it; start only one",
            RuntimeWarning,
            stacklevel=5,
        )


def _in_use(folder: Path) -> ArgumentError:
    return ArgumentError(
        f"{folder} must be used by one training at a time, got a second; wait until the first ends, or name another "
        "folder"
    )
