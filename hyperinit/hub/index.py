"""A registry of sources besides the embedded ones: an `index.json` on a web server or in a folder.

HYPERINIT_REGISTRY names it. It maps each name to the file, its SHA-256, its size in bytes, a title, the card, and
addresses of the file ("mirrors"), which may be relative to the index; without any, the file lies beside the index.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files import cache
from hyperinit.hub import address, download, http
from hyperinit.hub import download as hub_download

INDEX = "index.json"
LARGEST_INDEX = 4 * 2**20  # bytes
LARGEST = 2**31  # bytes of one artifact
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FRESH = 60.0  # seconds for which a process does not ask for the index again


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One source of a registry; see the head of this file."""

    file: str
    sha256: str
    size: int
    title: str
    mirrors: list[str] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Refuse an entry that was read from a file and cannot be used.

        Raises:
            ArgumentError: if the name or a field is not allowed.
        """
        texts = [self.file, self.sha256, self.title, *(self.mirrors if isinstance(self.mirrors, list) else [None])]
        if not all(isinstance(text, str) and text.isprintable() for text in texts) or not isinstance(self.card, dict):
            raise ArgumentError(f"{name!r}: a field is of another type, or no single line")
        if not NAME.fullmatch(name):
            raise ArgumentError(f"{name!r}: a name must be lower case letters, digits and hyphens")
        if not self.file.endswith(address.ENDING) or re.search(r"[/\\:]", self.file):
            raise ArgumentError(f"{name!r}: file must be the plain name of a {address.ENDING} file, got {self.file!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ArgumentError(f"{name!r}: sha256 must be 64 hexadecimal digits, got {self.sha256!r}")
        if type(self.size) is not int or not 0 < self.size <= LARGEST:
            raise ArgumentError(f"{name!r}: size must be 1 to {LARGEST:,} bytes, got {self.size!r}")


_recent: dict[str, tuple[float, dict[str, Entry]]] = {}  # time of the answer and the index, by address


def entries(offline: bool | None = None) -> dict[str, Entry]:
    """Return the sources of the registry, by name; none if HYPERINIT_REGISTRY is not set.

    An index on a web server is fetched, or taken from the cache when offline.

    Raises:
        ArgumentError: if HYPERINIT_REGISTRY is plain http to another machine, without a digest.
        ArtifactError: if the index is no registry.
        DownloadError: if it cannot be had.
    """
    where = _where()
    if where is None:
        return {}
    if isinstance(where, Path):
        return parsed(_read(where), str(where))
    url, sha256 = where
    if sha256:
        return parsed(_read(hub_download.fetched(_wanted(url, sha256), offline)), url)
    if download.switch(offline):
        return _remembered(url, offline)
    if url not in _recent or time.monotonic() - _recent[url][0] > FRESH:
        _recent[url] = (time.monotonic(), _fetched(url))
    return _recent[url][1]


def find(entry: Entry, offline: bool | None = None) -> Path:
    """Return the local file of an entry: from the folder of the index, the cache or the network.

    Raises:
        ArtifactError: if the folder does not hold the file that its index lists.
        DownloadError: if it cannot be fetched.
    """
    where = _where()
    mirrors = entry.mirrors or [entry.file]
    if isinstance(where, Path):
        paths = [where.parent / mirror for mirror in mirrors if "://" not in mirror]
        for path in paths:
            if path.is_file() and cache.holds(path, entry.sha256, entry.size):
                return path
        mirrors = [mirror for mirror in mirrors if "://" in mirror]
        if not mirrors:
            raise ArtifactError(
                f"{paths[0]} must be the file of {entry.size:,} bytes with SHA-256 {entry.sha256} that {where} lists; "
                "put it there, or build the index again with `hyperinit registry build`"
            )
    elif where:
        mirrors = [urljoin(where[0], mirror) for mirror in mirrors]
    wanted = download.Wanted(urls=tuple(mirrors), digest=entry.sha256, size=entry.size, name=entry.file)
    return hub_download.fetched(wanted, offline)


def parsed(raw: bytes, where: str) -> dict[str, Entry]:
    """Read an index; unknown fields are left out.

    Raises:
        ArtifactError: if any of its entries cannot be used.
    """
    try:
        known = Entry.__dataclass_fields__.keys()
        found = {
            name: Entry(**{key: value for key, value in entry.items() if key in known})
            for name, entry in json.loads(raw).items()
        }
        for name, entry in found.items():
            entry.check(name)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{where} must be an index of sources as `hyperinit registry build` writes it, got: {error}"
        ) from None
    return found


def _where() -> Path | tuple[str, str] | None:
    """Return the place that HYPERINIT_REGISTRY names: the path of the index, or its address and digest."""
    text = os.environ.get("HYPERINIT_REGISTRY", "")
    if not text:
        return None
    if "://" not in text:
        path = Path(text).expanduser().absolute()
        return path / INDEX if path.is_dir() else path
    url, sha256 = address.split(text)
    if urlsplit(url).scheme not in ("http", "https") or not (sha256 or address.is_safe(url)):
        raise ArgumentError(
            "HYPERINIT_REGISTRY must be a folder, https://..., http://localhost..., or http:// with #sha256=HEX of the "
            f"index at its end, got {http.shown(text)!r}"
        )
    return urljoin(url, INDEX) if url.endswith("/") else url, sha256


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"HYPERINIT_REGISTRY must name an index or its folder, got: {error}") from None


def _wanted(url: str, sha256: str = "") -> download.Wanted:
    by_hand = f"save {http.shown(url)} and what it lists in a folder, and set HYPERINIT_REGISTRY to that folder"
    return download.Wanted(urls=(url,), digest=sha256, most=LARGEST_INDEX, name=INDEX, by_hand=by_hand)


def _key(url: str) -> str:
    return cache.name(hashlib.sha256(url.encode()).hexdigest(), INDEX)


def _fetched(url: str) -> dict[str, Entry]:
    """Fetch the index and put it into the cache, unless it is damaged."""
    with cache.incoming(_key(url)) as temporary:
        download.fetch(_wanted(url), temporary)
        found = parsed(temporary.read_bytes(), http.shown(url))
        os.replace(temporary, temporary.with_name(_key(url)))
    return found


def _remembered(url: str, offline: bool | None) -> dict[str, Entry]:
    """Read the index as it was when it was last fetched."""
    path = cache.find(_key(url)) or cache.path() / _key(url)
    if not path.is_file():
        download.fetch(_wanted(url), path, offline=offline)  # raises, and says what to do
    return parsed(_read(path), http.shown(url))
