"""The commands about files of sources: `pull`, `cache` and `registry build`."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, urlsplit

from hyperinit import artifact, cache, hub
from hyperinit.commands import Answer, command
from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files import digest, replacing
from hyperinit.registry import INDEX, Entry


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands, each with the function that answers it as `run`."""
    pull = command(
        commands, "pull", _pull, "fetch a source into the cache, check it, and print where it is",
        "hyperinit pull hf://org/repo/mine.safetensors@main\n"
        "  hyperinit pull https://example.org/mine.safetensors#sha256=HEX --out mine.safetensors",
    )  # fmt: skip
    pull.add_argument("source", help="a name, https://...#sha256=HEX, or hf://org/repo/path/file.safetensors@revision")
    pull.add_argument("--out", type=Path, metavar="FILE", help="also copy it there")
    cached = command(
        commands, "cache", _cache, "list or delete downloaded files, or print their folder", "hyperinit cache list"
    )
    cached.add_argument("action", choices=("list", "clear", "path"))
    title = "write the index of a folder of artifacts, to be served by any web server"
    registry = command(commands, "registry", _registry, title, "hyperinit registry build public/")
    registry.add_argument("action", choices=("build",))
    registry.add_argument("folder", type=Path, metavar="DIR", help=f"folder of artifacts, which gets {INDEX}")
    registry.add_argument("--base-url", metavar="URL", help="address of the artifacts, if they lie elsewhere")


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


def _pull(arguments: argparse.Namespace) -> Answer:
    path = hub.find(arguments.source)
    hub.verify(path)
    title = artifact.read(path)[0].card.title
    if arguments.out is not None:
        try:
            with replacing(arguments.out) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise ArgumentError(f"--out must be a file that can be written, got: {error}") from None
        path = arguments.out
    size, sha256 = path.stat().st_size, digest(path)
    text = f"{path}\n{title}\n{size:,} bytes, SHA-256 {sha256}"
    return text, {"source": arguments.source, "path": str(path), "title": title, "size": size, "sha256": sha256}


def _cache(arguments: argparse.Namespace) -> Answer:
    if arguments.action == "path":
        return str(cache.path()), {"path": str(cache.path())}
    if arguments.action == "clear":
        count = cache.clear()
        return f"{count} files deleted from {cache.path()}", {"path": str(cache.path()), "deleted": count}
    files = [{"name": file.name, "size": file.stat().st_size} for file in cache.entries()]
    lines = [f"{file['size']:>13,}  {file['name']}" for file in files]
    return "\n".join([*lines, f"{len(files)} files in {cache.path()}"]), {"path": str(cache.path()), "files": files}


def _registry(arguments: argparse.Namespace) -> Answer:
    found = build(arguments.folder, arguments.base_url)
    path = arguments.folder / INDEX
    lines = [f"{name}  {entry.title}" for name, entry in found.items()]
    return "\n".join([*lines, f"{len(found)} sources in {path}"]), {"index": str(path), "sources": list(found)}
