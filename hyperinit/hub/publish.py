"""Writes registries: the index of a folder of artifacts, and the one of the embedded sources."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, urlsplit

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files.atomic import digest, replacing
from hyperinit.hub import index, sources
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
    if path.suffix != ENDING or not path.is_file():
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
        ArgumentError: if `base_url` is not an http or https address, or a file's name is not allowed for a source.
        ArtifactError: if the folder holds no artifact, or a damaged one.
    """
    if base_url is not None and (urlsplit(base_url).scheme not in ("http", "https") or "#" in base_url):
        raise ArgumentError(f"base-url must be an http or https address, got {base_url!r}")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ArtifactError(f"{folder} must be a folder with .safetensors artifacts, got none")
    found = {path.stem: _entry(path, base_url) for path in paths}
    _write(folder / INDEX, found)
    return found


def _write(path: Path, entries: dict[str, Entry]) -> None:
    """Write an index; empty fields are left out."""
    data = {name: {key: value for key, value in asdict(entry).items() if value} for name, entry in entries.items()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


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
