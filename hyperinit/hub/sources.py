"""From a source (a name, a path or an address) to a local file whose size and digest are known.

Embedded sources lie in `hyperinit/pretrained/`. Their `registry.json` maps a name to file, SHA-256, size in bytes
and title. A name wins over a file of the same name in the working folder; `./name.safetensors` is always a path.
"""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import TypedDict

from hyperinit.errors import ArtifactError, UnknownNameError
from hyperinit.files.atomic import digest
from hyperinit.hub import address, download, huggingface, index
from hyperinit.hub import download as hub_download

FOLDER = Path(__file__).parents[1] / "pretrained"
LARGEST = 8 * 2**20  # bytes of one embedded file, 8 MiB


class Entry(TypedDict):
    """One embedded source: file name in the folder, SHA-256 in hexadecimal, size in bytes, title in one line."""

    file: str
    sha256: str
    size: int
    title: str


def available(offline: bool | None = None) -> dict[str, str]:
    """Return the name of every source with its title: the embedded ones, then those of HYPERINIT_REGISTRY.

    Args:
        offline: True forbids to open a socket, as HYPERINIT_OFFLINE=1 does.

    Raises:
        ArtifactError: if the registry of this installation, or the other one, is damaged.
        DownloadError: if the index of HYPERINIT_REGISTRY cannot be had.
    """
    others = index.entries(offline)
    embedded = {name: entry["title"] for name, entry in embedded_registry().items()}
    return embedded | {name: entry.title for name, entry in others.items() if name not in embedded}


def find(source: str | Path, *, offline: bool | None = None) -> Path:
    """Return the local file of a source, after fetching it if need be.

    Order: path, embedded source, cache, network. What is fetched has the size and SHA-256 that were known before.

    Args:
        source: name of an embedded source or of one that HYPERINIT_REGISTRY lists, path of a .safetensors file,
            "https://...#sha256=HEX", or "hf://org/repo/path/file.safetensors@revision".
        offline: True forbids to open a socket, as HYPERINIT_OFFLINE=1 does.

    Raises:
        UnknownNameError: if no source has this name; it lists the names there are.
        ArgumentError: if it is an address that cannot be trusted or read, such as one without a digest.
        DownloadError: if it is not in the cache and cannot be fetched.
        ArtifactError: if the file is missing, is no .safetensors file, or an embedded one has another size than
            registered. Its digest is not computed here, see `verify`.
    """
    if isinstance(source, str):
        if place := address.parse(source):
            return _fetched(place, offline)
        embedded = embedded_registry()
        if source in embedded:
            return _embedded(source, embedded[source])
        if not source.endswith(".safetensors") and "/" not in source and os.sep not in source:
            return _registered(source, list(embedded), offline)
    path = Path(source).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ArtifactError(f"source must be a name or an existing .safetensors file, got {str(source)!r}")
    return path


def verify(path: Path) -> None:
    """Compare an embedded file with its registered digest; of other files nothing is known, so nothing is checked.

    Raises:
        ArtifactError: if the digest differs.
    """
    if path.parent != FOLDER:
        return
    for name, entry in embedded_registry().items():
        if entry["file"] == path.name and (got := digest(path)) != entry["sha256"]:
            raise ArtifactError(
                f"embedded source {name!r} ({path}) has SHA-256 {got}, expected {entry['sha256']}; reinstall hyperinit"
            )


def embedded_registry() -> dict[str, Entry]:
    """Return the entries of the embedded registry by name, each of them checked."""
    path = FOLDER / "registry.json"
    try:
        entries: dict[str, Entry] = {
            name: Entry(file=entry["file"], sha256=entry["sha256"], size=entry["size"], title=entry["title"])
            for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except FileNotFoundError:
        return {}  # an installation without embedded sources
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({type(error).__name__}: {error}); reinstall hyperinit") from None
    return entries


def _fetched(place: address.Web | address.HuggingFace, offline: bool | None) -> Path:
    if isinstance(place, address.HuggingFace):
        return huggingface.find(place, offline)
    wanted = download.Wanted(urls=(place.url,), digest=place.sha256, most=index.LARGEST, name=place.name)
    return hub_download.fetched(wanted, offline)


def _registered(source: str, embedded: list[str], offline: bool | None) -> Path:
    entries = index.entries(offline)
    if source not in entries:
        raise UnknownNameError(_unknown(source, [*embedded, *(name for name in entries if name not in embedded)]))
    return index.find(entries[source], offline)


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
    close = get_close_matches(source.lower(), names, n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    known = f"Sources: {', '.join(names)}." if names else "This installation embeds no sources."
    return f"unknown source {source!r}; {hint}{known} A path must end in .safetensors, such as './mine.safetensors'"
