"""From a source name or a path to a local file whose size and digest are known.

Embedded sources lie in `hyperinit/pretrained/`. Their `registry.json` maps a name to file, SHA-256, size in bytes
and title. A name wins over a file of the same name in the working folder; `./name.safetensors` is always a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TypedDict

from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError
from hyperinit.files import replacing

FOLDER = Path(__file__).parent / "pretrained"
LARGEST = 8 * 2**20  # bytes of one embedded file, 8 MiB


class Entry(TypedDict):
    """One embedded source: file name in the folder, SHA-256 in hexadecimal, size in bytes, title in one line."""

    file: str
    sha256: str
    size: int
    title: str


def available() -> dict[str, str]:
    """Return the name of every embedded source with its title.

    Raises:
        ArtifactError: if the registry of this installation is damaged.
    """
    return {name: entry["title"] for name, entry in _registry().items()}


def find(source: str | Path) -> Path:
    """Return the local file of a source.

    Args:
        source: name of an embedded source, or path of a .safetensors file.

    Raises:
        UnknownNameError: if no source has this name; it lists the names there are.
        ArtifactError: if the file is missing, is no .safetensors file, or an embedded one has another size than
            registered. Its digest is not computed here, see `verify`.
    """
    if isinstance(source, str):
        registry = _registry()
        if source in registry:
            return _embedded(source, registry[source])
        if not source.endswith(".safetensors") and "/" not in source and os.sep not in source:
            raise UnknownNameError(_unknown(source, list(registry)))
    path = Path(source).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ArtifactError(f"source must be a name or an existing .safetensors file, got {str(source)!r}")
    return path


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> None:
    """Compare an embedded file with its registered digest; of other files nothing is known, so nothing is checked.

    Raises:
        ArtifactError: if the digest differs.
    """
    if path.parent != FOLDER:
        return
    for name, entry in _registry().items():
        if entry["file"] == path.name and (got := digest(path)) != entry["sha256"]:
            raise ArtifactError(
                f"embedded source {name!r} ({path}) has SHA-256 {got}, expected {entry['sha256']}; reinstall hyperinit"
            )


def register_embedded(path: str | Path, name: str, title: str) -> None:
    """Write a file of the embedded folder into `registry.json`, under a new name or in place of the old entry.

    The registry is replaced in one step: a reader sees the old one or the new one.

    Args:
        path: .safetensors file that lies in the embedded folder already.
        name: lower case letters, digits and hyphens.
        title: one line for `hyperinit.sources()`.

    Raises:
        ArgumentError: if the name, the title or the place of the file is not allowed.
        ArtifactError: if the file is missing or larger than 8 MiB.
    """
    path = Path(path)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ArgumentError(f"name must be lower case letters, digits and hyphens, got {name!r}")
    if not title.strip() or not title.isprintable():
        raise ArgumentError(f"title must be one line of text, got {title!r}")
    if path.resolve().parent != FOLDER.resolve():
        raise ArgumentError(f"path must lie in {FOLDER}, got {path}")
    size = find(path).stat().st_size
    if size > LARGEST:
        raise ArtifactError(f"an embedded file must have at most {LARGEST:,} bytes, {path} has {size:,}")
    entry = Entry(file=path.name, sha256=digest(path), size=size, title=title)
    registry = _registry() | {name: entry}
    with replacing(FOLDER / "registry.json") as temporary:
        temporary.write_text(json.dumps(dict(sorted(registry.items())), indent=2) + "\n", encoding="utf-8")


def _registry() -> dict[str, Entry]:
    path = FOLDER / "registry.json"
    try:
        registry: dict[str, Entry] = {
            name: Entry(file=entry["file"], sha256=entry["sha256"], size=entry["size"], title=entry["title"])
            for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except FileNotFoundError:
        return {}  # an installation without embedded sources
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({type(error).__name__}: {error}); reinstall hyperinit") from None
    return registry


def _embedded(name: str, entry: Entry) -> Path:
    path = FOLDER / entry["file"]
    try:
        size = os.stat(path).st_size
    except OSError:
        raise ArtifactError(f"embedded source {name!r} lacks its file {path}; reinstall hyperinit") from None
    if size != entry["size"]:
        raise ArtifactError(
            f"embedded source {name!r} ({path}) has {size} bytes, expected {entry['size']}; reinstall hyperinit"
        )
    return path


def _unknown(source: str, names: list[str]) -> str:
    close = get_close_matches(source, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    known = f"Sources: {', '.join(names)}." if names else "This installation embeds no sources."
    return f"unknown source {source!r}; {hint}{known} A path must end in .safetensors, such as './mine.safetensors'"
