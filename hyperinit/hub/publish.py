"""Publish artifacts: the registry of the embedded sources and index files of other registries."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, urlsplit

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files.atomic import digest, replacing
from hyperinit.hub import index, sources
from hyperinit.hub.index import INDEX, Entry
from hyperinit.hub.sources import embedded_registry, find
from hyperinit.representation import artifact


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
    if not index.NAME.fullmatch(name):
        raise ArgumentError(f"name must be lower case letters, digits and hyphens, got {name!r}")
    if not title.strip() or not title.isprintable():
        raise ArgumentError(f"title must be one line of text, got {title!r}")
    if path.resolve().parent != sources.FOLDER.resolve():
        raise ArgumentError(f"path must lie in {sources.FOLDER}, got {path}")
    size = find(path).stat().st_size
    if size > sources.LARGEST:
        raise ArtifactError(f"an embedded file must have at most {sources.LARGEST:,} bytes, {path} has {size:,}")
    entry = sources.Entry(file=path.name, sha256=digest(path), size=size, title=title)
    entries = embedded_registry() | {name: entry}
    with replacing(sources.FOLDER / "registry.json") as temporary:
        temporary.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", encoding="utf-8")


def build(folder: Path, base_url: str | None = None) -> dict[str, Entry]:
    """Write `folder/index.json` for the .safetensors artifacts in a folder, in one step, and return its entries.

    An artifact's name is its file's, without the ending.

    Args:
        folder: of artifacts; other files are left out.
        base_url: address of the artifacts; None means that they lie beside the index.

    Raises:
        ArgumentError: if `base_url` is no http address, or a file's name cannot be a source's.
        ArtifactError: if there is no artifact, or one is damaged.
    """
    if base_url is not None and (urlsplit(base_url).scheme not in ("http", "https") or "#" in base_url):
        raise ArgumentError(f"base-url must be an http or https address, got {base_url!r}")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ArtifactError(f"{folder} must be a folder with .safetensors artifacts, got none")
    found = {path.stem: _entry(path, base_url) for path in paths}
    with replacing(folder / INDEX) as temporary:
        text = json.dumps({name: asdict(entry) for name, entry in found.items()}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    return found


def _entry(path: Path, base_url: str | None) -> Entry:
    card = artifact.read(path)[0].card
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
