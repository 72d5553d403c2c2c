"""Names of temporary files that tell which process writes them, so that those of killed processes can be deleted.

A name ends in `.HOST-PID-RANDOM.part`. HOST stands for this start of this machine and its process numbers. Files of
other machines, and `.part` files of other programs' names, count as abandoned a day after their last change.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

OURS = re.compile(r".*\.([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}\.part", re.DOTALL)
ABANDONED = 24 * 3600  # seconds after the last change
AGAIN = 60.0  # seconds after which a process looks through the same folder again
STEM = 100  # bytes of the target's name in the temporary name: file systems allow 255 in all

_swept: dict[Path, float] = {}  # when this process looked through a folder


def beside(path: Path) -> Path:
    """Return a new path in the same folder, with a name of this process. Nothing is created."""
    stem = os.fsencode(path.name)[:STEM].decode("utf-8", "ignore")
    return path.parent / f"{stem}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def sweep(folder: Path) -> None:
    """Delete the temporary files and folders in a folder whose processes have ended, and no other files.

    A second call within a minute does nothing. Files that cannot be deleted stay.
    """
    now = time.monotonic()
    if now - _swept.get(folder, -AGAIN) < AGAIN:
        return
    _swept[folder] = now
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            path = folder / entry.name
            if OURS.fullmatch(entry.name) and is_abandoned(path):
                delete(path)


def is_abandoned(path: Path) -> bool:
    """Tell whether no process writes a temporary file any more."""
    found = OURS.fullmatch(path.name)
    if found and found[1] == _host() and os.name == "posix":
        return not _runs(int(found[2]))
    try:
        return time.time() - path.stat().st_mtime > ABANDONED
    except OSError:
        return False  # another process has deleted it


def delete(path: Path) -> None:
    """Delete a temporary file or folder, if it exists and can be deleted."""
    if os.path.isdir(path) and not os.path.islink(path):  # these never raise
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # a process of another user, or a system without /proc
    return stat.rpartition(")")[2].split()[:1] != ["Z"]  # a zombie has ended


@cache
def _host() -> str:
    """Return 8 hexadecimal digits for the machine, its start, and the namespace of its process numbers."""
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode(errors="replace")).hexdigest()[:8]
