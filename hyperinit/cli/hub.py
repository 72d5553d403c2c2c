"""The commands that download and publish sources: `pull`, `cache` and `registry build`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from hyperinit.cli.arguments import Parser
from hyperinit.cli.places import check_file
from hyperinit.cli.sources import Answer, command
from hyperinit.errors import counted, one_line
from hyperinit.files import cache
from hyperinit.files.atomic import digest, replacing
from hyperinit.hub import address, sources
from hyperinit.hub.index import INDEX
from hyperinit.hub.publish import build
from hyperinit.representation import artifact


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands; `run` of each is the function that returns its answer."""
    pull = command(
        commands, "pull", _pull, "download a source into the cache, validate it, and print its path",
        "hyperinit pull hf://org/repo/mine.safetensors@main\n"
        "  hyperinit pull https://example.org/mine.safetensors#sha256=HEX --out mine.safetensors",
    )  # fmt: skip
    pull.add_argument("source", help="a name, https://...#sha256=HEX, or hf://org/repo/path/file.safetensors@revision")
    pull.add_argument("--out", type=Path, metavar="FILE", help="also copy it to this path")
    pull.add_argument("--force", action="store_true", help="replace the file of --out if it exists")
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
    out: Path | None = arguments.out
    if out is not None:
        check_file(out, force=arguments.force)
    path = sources.find(arguments.source).path
    title = artifact.read(path).header.card.title
    if out is not None:
        with replacing(out) as temporary:
            shutil.copyfile(path, temporary)
        path = out
    size, sha256 = path.stat().st_size, digest(path)
    text = f"{one_line(path)}\n{one_line(title)}\n{size:,} bytes, SHA-256 {sha256}"
    source = address.shown(arguments.source)
    return text, {"source": source, "path": str(path), "title": title, "size": size, "sha256": sha256}


def _cache(arguments: argparse.Namespace) -> Answer:
    if arguments.action == "path":
        return str(cache.path()), {"path": str(cache.path())}
    if arguments.action == "clear":
        count = cache.clear()
        text = f"{counted(count, 'file')} deleted from {one_line(cache.path())}"
        return text, {"path": str(cache.path()), "deleted": count}
    files = [{"name": file.name, "size": file.stat().st_size} for file in cache.entries()]
    lines = [f"{file['size']:>13,}  {one_line(file['name'])}" for file in files]
    lines.append(f"{counted(len(files), 'file')} in {one_line(cache.path())}")
    return "\n".join(lines), {"path": str(cache.path()), "files": files}


def _registry(arguments: argparse.Namespace) -> Answer:
    found = build(arguments.folder, arguments.base_url)
    path = arguments.folder / INDEX
    lines = [f"{name}  {one_line(entry.title)}" for name, entry in found.items()]
    lines.append(f"{counted(len(found), 'source')} in {one_line(path)}")
    return "\n".join(lines), {"index": str(path), "sources": list(found)}
