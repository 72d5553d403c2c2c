"""Finds the file of a source, which is a name, a path or an address, and compares its SHA-256 with the known one.

The embedded sources are a registry in the folder `hyperinit/pretrained/`. A name wins over a file of the same name in
the working folder; `./name.safetensors` is always a path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError, did_you_mean, listed, shown
from hyperinit.files.found import POINTED, Found, expanded, is_file, is_pointer
from hyperinit.hub import address, download, huggingface, index
from hyperinit.hub.index import Entry

FOLDER = Path(__file__).parents[1] / "pretrained"
REGISTRY = "registry.json"  # index of the embedded sources
LARGEST = 8 * 2**20  # bytes of one embedded file, 8 MiB


def available(offline: bool | None = None) -> dict[str, str]:
    """Return the title of every source by name: the embedded ones, then those of HYPERINIT_REGISTRY.

    Args:
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does.

    Raises:
        ArtifactError: if the index of the embedded sources or of HYPERINIT_REGISTRY is damaged.
        DownloadError: if the index of HYPERINIT_REGISTRY cannot be downloaded.
    """
    found = embedded()
    found |= {name: entry for name, entry in index.entries(offline).items() if name not in found}
    return {name: entry.title for name, entry in found.items()}


def find(source: str | Path, *, offline: bool | None = None) -> Found:
    """Return the file of a source on this machine; download it first if need be.

    The SHA-256 of the file is compared with the one that the address or the registry states. This holds also for a path
    that leads to an embedded file, and for symbolic links. The comparison reads the file once in a process, and again
    only after the file was changed or replaced.

    Args:
        source: name of an embedded source or of one that HYPERINIT_REGISTRY lists, path of a .safetensors file,
            "https://...#sha256=HEX", or "hf://org/repo/path/file.safetensors@revision".
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does.

    Returns:
        The path, the SHA-256 and the name. The SHA-256 is None for a path, unless it is one of an embedded file.

    Raises:
        UnknownNameError: if no source has this name; the message lists the names.
        ArgumentError: if it is neither text nor a path, or an address that is malformed or lacks a digest.
        DownloadError: if the file is not in the cache and cannot be downloaded.
        ArtifactError: if the file is missing, is no .safetensors file, or has another size or SHA-256 than listed.

    >>> find("digits").path.name
    'digits.safetensors'
    """
    if not isinstance(source, str | Path):
        raise ArgumentError(f"source must be a name, a path or an address, got {shown(source)}")
    if isinstance(source, str) and (place := address.parse(source)):
        return _download(place, offline)
    listed = embedded()
    if isinstance(source, str):
        if source in listed:
            return _folder().find(source, listed[source])
        if not source.endswith(address.ENDING) and "/" not in source and os.sep not in source:
            return _registered(source, listed, offline)
    path = expanded(source)
    if path.suffix != address.ENDING or not is_file(path):
        got = address.shown(str(source))
        raise ArtifactError(f"source must be a name or an existing .safetensors file, got {got!r}")
    if is_pointer(path):
        raise ArtifactError(f"source must be a .safetensors file, got {path}, {POINTED}")
    return _of_path(path, listed)


def embedded() -> dict[str, Entry]:
    """Return the entries of the embedded sources by name; none if the installation has no index of them."""
    folder = _folder()
    return folder.entries() if is_file(folder.index) else {}


def _folder() -> index.Folder:
    return index.Folder(FOLDER / REGISTRY, "reinstall hyperinit")


def _of_path(path: Path, listed: Mapping[str, Entry]) -> Found:
    """Return the file of a path, with the digest of the embedded source if it is the file of one."""
    for name, entry in listed.items():
        own = FOLDER / entry.file
        if is_file(own) and path.samefile(own):  # also behind a symbolic link on either side
            return Found(path, _folder().find(name, entry).digest, name)
    return Found(path, None, path.stem)


def _download(place: address.Web | address.HuggingFace, offline: bool | None) -> Found:
    if isinstance(place, address.HuggingFace):
        return huggingface.find(place, offline)
    wanted = download.Wanted(urls=(place.url,), digest=place.sha256, most=index.LARGEST, name=place.name)
    return Found(download.fetched(wanted, offline), place.sha256, place.name)


def _registered(name: str, listed: Mapping[str, Entry], offline: bool | None) -> Found:
    entries = index.entries(offline)
    if name not in entries:
        raise UnknownNameError(_unknown(name, [*listed, *(other for other in entries if other not in listed)]))
    return index.find(name, entries[name], offline)


def _unknown(source: str, names: list[str]) -> str:
    near = did_you_mean(source, names)
    known = f"Sources: {listed(names)}." if names else "This installation embeds no sources."
    hint = f"{near} {known}" if near else known
    got = shown(address.shown(source))
    return f"unknown source {got}; {hint} A path must end in .safetensors, such as './mine.safetensors'"
