"""Writes files in one step, so that a reader finds the complete old or new file, and computes digests of files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`. After the block the file written to it replaces `path`.

    After an error in the block the temporary file is deleted and `path` is unchanged. Missing folders are made. The
    finished file has mode 644, as `open` gives with the usual umask.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     temporary.write_text("whole")
    5
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: os.replace is atomic only within one file system.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 600
        # A rename is atomic for readers and for a killed process. There is no fsync: a power failure soon after may
        # leave an incomplete file, and the digests of artifacts and cached files reveal that when they are read.
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file in hexadecimal.

    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> path.write_text("whole")
    5
    >>> digest(path, "md5")
    '356c9ee60e9da05301adc3bd96f6b383'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
