"""The commands that download and publish sources: `pull`, `cache` and `registry build`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from hyperinit.cli.sources import Answer, command
from hyperinit.errors import ArgumentError
from hyperinit.files import cache
from hyperinit.files.atomic import digest, replacing
from hyperinit.hub import sources
from hyperinit.hub.index import INDEX
from hyperinit.hub.publish import build
from hyperinit.representation import artifact


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands; `run` of each is the function that returns its answer."""
    pull = command(
        commands, "pull", _pull, "download a source into the cache, validate it, and print its path",
        "hyperinit pull hf://org/repo/mine.safetensors@main\n"
        "  hyperinit pull https://example.org/mine.safetensors#sha256=HEX --out mine.safetensors",
    )  # fmt: skip
    pull.add_argument("source", help="a name, https://...#sha256=HEX, or hf://org/repo/path/file.safetensors@revision")
    pull.add_argument("--out", type=Path, metavar="FILE", help="also copy it to this path")
    cached = command(
        commands, "cache", _cache, "list or delete downloaded files, or print their folder", "hyperinit cache list"
    )
    cached.add_argument("action", choices=("list", "clear", "path"))
    title = "write the index of a folder of artifacts, which any web server can serve"
    registry = command(commands, "registry", _registry, title, "hyperinit registry build public/")
    registry.add_argument("action", choices=("build",))
    registry.add_argument("folder", type=Path, metavar="DIR", help=f"folder of artifacts; {INDEX} is written into it")
    registry.add_argument("--base-url", metavar="URL", help="address of the artifacts; default: beside the index")


def _pull(arguments: argparse.Namespace) -> Answer:
    path = sources.find(arguments.source).path
    title = artifact.read(path).header.card.title
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
