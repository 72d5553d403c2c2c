"""A file that was found for a source, with the digest that it was compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
