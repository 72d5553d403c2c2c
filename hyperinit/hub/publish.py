"""Writes registries: the index of a folder of artifacts, and the one of the embedded sources."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files.atomic import digest, replacing
from hyperinit.files.found import is_file
from hyperinit.hub import address, index, sources
from hyperinit.hub.address import ENDING
from hyperinit.hub.index import INDEX, Entry
from hyperinit.representation import artifact


def register_embedded(path: str | Path, name: str, title: str) -> None:
    """Add a file to the index of the embedded sources, or replace the entry of that name.

    The index is replaced in one step: a reader sees the old one or the new one.

    Args:
        path: .safetensors file in the folder of embedded sources.
        name: lower case letters, digits and hyphens.
        title: one line for `hyperinit.sources()`.

    Raises:
        ArgumentError: if the name or the title is not allowed, or the file lies elsewhere.
        ArtifactError: if the file is missing or larger than 8 MiB.
    """
    path = Path(path)
    if not index.NAME.fullmatch(name):
        raise ArgumentError(f"name must be lower case letters, digits and hyphens, got {name!r}")
    if not title.strip() or not title.isprintable():
        raise ArgumentError(f"title must be one line of text, got {title!r}")
    if path.resolve().parent != sources.FOLDER.resolve():
        raise ArgumentError(f"path must lie in {sources.FOLDER}, got {path}")
    if path.suffix != ENDING or not is_file(path):
        raise ArtifactError(f"path must be an existing .safetensors file, got {path}")
    size = path.stat().st_size
    if size > sources.LARGEST:
        raise ArtifactError(f"an embedded file must have at most {sources.LARGEST:,} bytes, {path} has {size:,}")
    entry = Entry(file=path.name, sha256=digest(path), size=size, title=title)
    _write(sources.FOLDER / sources.REGISTRY, dict(sorted((sources.embedded() | {name: entry}).items())))


def build(folder: Path, base_url: str | None = None) -> dict[str, Entry]:
    """Write `folder/index.json` for the .safetensors artifacts in a folder, in one step, and return its entries.

    The name of a source is the file's name without the ending.

    Args:
        folder: with the artifacts; other files are ignored.
        base_url: address of the folder that serves the artifacts; None means that they lie beside the index.

    Raises:
        ArgumentError: if `base_url` is not an http or https address, holds a secret, or a file's name is not allowed
            for a source.
        ArtifactError: if the folder holds no artifact, or a damaged one, or the index would be too large.
        WriteError: if the index cannot be written.
    """
    if base_url is not None:
        _check_base(base_url)
    paths = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))  # not "._x" of macOS
    if not paths:
        raise ArtifactError(f"{folder} must be a folder with .safetensors artifacts, got none")
    found = {path.stem: _entry(path, base_url) for path in paths}
    _write(folder / INDEX, found)
    return found


def _check_base(url: str) -> None:
    found = address.parts(url)
    if not found or "#" in url or not url.isprintable() or " " in url:
        raise ArgumentError(f"base-url must be an http or https address, got {address.shown(url)!r}")
    if "@" in found.netloc or "?" in url:
        raise ArgumentError(
            "base-url must hold no user name, password or query, because everyone can read them in the index, "
            f"got one with {address.shown(url)!r}; leave them out"
        )


def _write(path: Path, entries: dict[str, Entry]) -> None:
    """Write an index that passes the checks of the reader; empty fields are left out."""
    data = {name: {key: value for key, value in asdict(entry).items() if value} for name, entry in entries.items()}
    raw = (json.dumps(data, indent=2) + "\n").encode("ascii")
    if len(raw) > index.LARGEST_INDEX:
        most = f"at most {index.LARGEST_INDEX:,} bytes"
        raise ArtifactError(f"an index must have {most}, {path} would have {len(raw):,}; make several folders")
    index.parsed(raw, str(path))
    with replacing(path) as temporary:
        temporary.write_bytes(raw)


def _entry(path: Path, base_url: str | None) -> Entry:
    card = artifact.read(path).header.card
    base = "" if base_url is None else base_url.rstrip("/") + "/"
    entry = Entry(
        file=path.name,
        sha256=digest(path),
        size=path.stat().st_size,
        title=card.title,
        mirrors=[base + quote(path.name)],
        card=asdict(card),
    )
    entry.check(path.stem)
    return entry
