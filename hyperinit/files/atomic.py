"""Files that are written whole or not at all, so that whatever a reader finds can be trusted."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success the file takes the place of `path`, otherwise it goes.

    Folders on the way are made. The finished file is readable by everybody, as a plain `open` would leave it.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     temporary.write_text("whole")
    5
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
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
