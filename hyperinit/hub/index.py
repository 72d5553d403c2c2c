"""Reads registries: an index of sources in a folder or on a web server. HYPERINIT_REGISTRY names one.

An index maps the name of each source to an `Entry`. The embedded sources are a registry in a folder.
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
from urllib.parse import quote

from hyperinit.errors import ArgumentError, ArtifactError, DownloadError, shown
from hyperinit.files import cache
from hyperinit.files.atomic import digest, settle
from hyperinit.files.found import POINTED, Found, contents, expanded, is_file, is_pointer
from hyperinit.hub import address, download

INDEX = "index.json"
LARGEST_INDEX = 4 * 2**20  # bytes
LARGEST = 2**31  # bytes of one artifact
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FRESH = 60.0  # seconds after which a process downloads the index again
EXAMPLE = "https://example.org/"  # a place of an index, to which mirrors can be relative
REMEDY = "check HYPERINIT_REGISTRY, or build the index again with `hyperinit registry build`"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One source of a registry.

    Args:
        file: plain name of a .safetensors file.
        sha256: of the file, in hexadecimal.
        size: of the file, in bytes.
        title: one line for `hyperinit.sources()`.
        mirrors: at most 16 addresses of the file, or paths relative to the index. None means that it lies beside it.
        card: of the artifact, as JSON data.
    """

    file: str
    sha256: str
    size: int
    title: str
    mirrors: list[str] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Validate the entry and its name.

        Raises:
            ArgumentError: if the name or a field is not allowed.
        """
        texts = [self.file, self.sha256, self.title, *(self.mirrors if isinstance(self.mirrors, list) else [None])]
        if not all(isinstance(text, str) and text.isprintable() for text in texts) or not isinstance(self.card, dict):
            raise ArgumentError(f"{shown(name)}: a field has the wrong type, or is not a single line")
        if not NAME.fullmatch(name):
            raise ArgumentError(f"{shown(name)}: a name must be lower case letters, digits and hyphens")
        if not self.file.endswith(address.ENDING) or re.search(r"[/\\:]", self.file):
            raise ArgumentError(
                f"{name!r}: file must be the plain name of a {address.ENDING} file, got {shown(self.file)}"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ArgumentError(f"{name!r}: sha256 must be 64 hexadecimal digits, got {shown(self.sha256)}")
        if type(self.size) is not int or not 0 < self.size <= LARGEST:
            raise ArgumentError(f"{name!r}: size must be 1 to {LARGEST:,} bytes, got {shown(self.size)}")
        self._check_mirrors(name)

    def _check_mirrors(self, name: str) -> None:
        if len(self.mirrors) > download.MOST_URLS:
            most = f"at most {download.MOST_URLS} addresses"
            raise ArgumentError(f"{name!r}: mirrors must be {most}, got {len(self.mirrors):,}")
        for mirror in self.mirrors:
            if not address.joined(EXAMPLE, mirror):
                must = "a mirror must be an http or https address, or a path relative to the index"
                raise ArgumentError(f"{name!r}: {must}, got {address.shown(mirror)!r}")


_recent: dict[str, tuple[float, dict[str, Entry]]] = {}  # when the index was downloaded and its entries, by address


@dataclass(frozen=True)
class Folder:
    """A registry in a folder: its index, with the artifacts beside it.

    Args:
        index: path of the index, a JSON file.
        remedy: what to do about a damaged index or artifact, for messages.
    """

    index: Path
    remedy: str

    def entries(self) -> dict[str, Entry]:
        """Return the entries of the index, by name.

        Raises:
            ArtifactError: if the index is missing or damaged.
        """
        try:
            return parsed(contents(self.index, LARGEST_INDEX), str(self.index))
        except OSError as error:
            raise ArtifactError(f"the index {self.index} cannot be read, got: {error}; {self.remedy}") from None
        except ArtifactError as error:
            raise ArtifactError(f"{error}; {self.remedy}") from None

    def find(self, name: str, entry: Entry) -> Found:
        """Return the file of an entry: the first of its mirrors in the folder that has the listed size and SHA-256.

        The digest is that of the file's contents, so a symbolic link is compared like the file that it points to.
        Mirrors on the network are skipped.

        Raises:
            ArtifactError: if no file in the folder has them.
        """
        problems = []
        for mirror in entry.mirrors or [entry.file]:
            if "://" in mirror:
                continue
            path = self.index.parent / mirror
            if cache.holds(path, entry.sha256, entry.size):
                return Found(path, entry.sha256, name)
            problems.append(f"{path} {_misfit(path, entry)}")
        raise ArtifactError(f"source {name!r} of {self.index}: {'; '.join(problems)}; {self.remedy}")


def _misfit(path: Path, entry: Entry) -> str:
    """Say why a file is not the one of an entry."""
    try:
        if not is_file(path):
            return "is missing"
        if is_pointer(path):
            return f"is {POINTED}"
        if (size := path.stat().st_size) != entry.size:
            return f"has {size:,} bytes, expected {entry.size:,}"
        return f"has SHA-256 {digest(path)}, expected {entry.sha256}"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def entries(offline: bool | None = None) -> dict[str, Entry]:
    """Return the sources of the registry that HYPERINIT_REGISTRY names, by name; none if it is not set.

    An index on a web server is downloaded, or read from the cache if downloads are forbidden.

    Raises:
        ArgumentError: if HYPERINIT_REGISTRY is plain http to another machine, without a digest.
        ArtifactError: if the index is missing from its folder, or damaged.
        DownloadError: if the index cannot be downloaded.
    """
    where = _where()
    if where is None:
        return {}
    if isinstance(where, Folder):
        return where.entries()
    url, sha256 = where
    if sha256:
        return _read(download.fetched(_wanted(url, sha256), offline), url)
    if download.switch(offline):
        return _remembered(url, offline)
    if url not in _recent or time.monotonic() - _recent[url][0] > FRESH:
        _recent[url] = (time.monotonic(), _downloaded(url))
    return _recent[url][1]


def find(name: str, entry: Entry, offline: bool | None = None) -> Found:
    """Return the file of an entry of HYPERINIT_REGISTRY: from its folder, the cache or the network.

    Raises:
        ArtifactError: if the folder does not hold the file that its index lists.
        DownloadError: if the file cannot be downloaded.
    """
    where = _where()
    mirrors = entry.mirrors or [quote(entry.file)]
    if isinstance(where, Folder):
        try:
            return where.find(name, entry)
        except ArtifactError:
            mirrors = [mirror for mirror in mirrors if "://" in mirror]
            if not mirrors:
                raise
    elif where:
        mirrors = [address.joined(where[0], mirror) or mirror for mirror in mirrors]
    wanted = download.Wanted(urls=tuple(mirrors), digest=entry.sha256, size=entry.size, name=entry.file)
    return Found(download.fetched(wanted, offline), entry.sha256, name)


def parsed(raw: bytes, where: str) -> dict[str, Entry]:
    """Read an index and check its entries; unknown fields are ignored.

    Args:
        raw: the JSON text.
        where: path or address of the index, for messages.

    Raises:
        ArtifactError: if it is not an index, or an entry is damaged.
    """
    from hyperinit.files import headers  # imports torch, which most downloads do not need

    try:
        if len(raw) > LARGEST_INDEX // 4 and not raw.isascii():
            # One wide character makes Python keep 4 bytes for each character of the text.
            raise ArgumentError(
                f"an index of more than {LARGEST_INDEX // 4:,} bytes must be ASCII; escape other letters"
            )
        known = Entry.__dataclass_fields__.keys()
        data = headers.parsed(raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff"))
        found = {
            name: Entry(**{key: value for key, value in entry.items() if key in known}) for name, entry in data.items()
        }
        for name, entry in found.items():
            entry.check(name)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{where} must be an index of sources as `hyperinit registry build` writes it, got: {error}"
        ) from None
    return found


def _where() -> Folder | tuple[str, str] | None:
    """Return the registry that HYPERINIT_REGISTRY names: a folder, or the address and digest of the index."""
    text = os.environ.get("HYPERINIT_REGISTRY", "")
    if not text:
        return None
    if "://" not in text:
        path = expanded(text).absolute()
        return Folder(path / INDEX if os.path.isdir(path) else path, REMEDY)
    url, sha256 = address.split(text)
    if not address.parts(url) or not (sha256 or address.is_safe(url)):
        raise ArgumentError(
            "HYPERINIT_REGISTRY must be a folder, https://..., http://localhost..., or http:// with #sha256=HEX of the "
            f"index at its end, got {address.shown(text)!r}"
        )
    return url + INDEX if url.endswith("/") else url, sha256


def _wanted(url: str, sha256: str = "") -> download.Wanted:
    by_hand = f"save {address.shown(url)} and the files that it lists in a folder, and set HYPERINIT_REGISTRY to it"
    return download.Wanted(urls=(url,), digest=sha256, most=LARGEST_INDEX, name=INDEX, by_hand=by_hand)


def _key(url: str) -> str:
    return cache.name(hashlib.sha256(url.encode()).hexdigest(), INDEX)


def _downloaded(url: str) -> dict[str, Entry]:
    """Download the index and put it into the cache, unless it is damaged."""
    with cache.incoming(_key(url)) as temporary:
        download.fetch(_wanted(url), temporary)
        found = _read(temporary, url)
        try:
            settle(temporary, temporary.with_name(_key(url)))
        except OSError as error:
            raise DownloadError(f"{temporary.parent} cannot be written, got: {error}; free some disk space") from None
    return found


def _remembered(url: str, offline: bool | None) -> dict[str, Entry]:
    """Read the index that was downloaded last from the cache."""
    path = cache.find(_key(url)) or cache.path() / _key(url)
    if not is_file(path):
        download.fetch(_wanted(url), path, offline=offline)  # raises: downloads are forbidden
    return _read(path, url)


def _read(path: Path, url: str) -> dict[str, Entry]:
    """Read a downloaded index."""
    try:
        return parsed(contents(path, LARGEST_INDEX), address.shown(url))
    except OSError as error:
        raise ArtifactError(f"the index {path} cannot be read, got: {error}; delete it and try again") from None
