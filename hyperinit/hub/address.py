"""Parses the addresses of sources: `https://...#sha256=HEX` and `hf://org/repo/path/file.safetensors@revision`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hyperinit.errors import ArgumentError

ENDING = ".safetensors"


@dataclass(frozen=True)
class Web:
    """A file on a web server: its address without the fragment, and the SHA-256 in hexadecimal."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """File name: the last part of the address, with the ending .safetensors."""
        last = unquote(urlsplit(self.url).path.rpartition("/")[2]) or "source"
        return last if last.endswith(ENDING) else last + ENDING


@dataclass(frozen=True)
class HuggingFace:
    """A file of a repository on the Hugging Face Hub, at a branch, tag or commit."""

    repo: str
    file: str
    revision: str

    @property
    def name(self) -> str:
        """File name, without folders."""
        return self.file.rpartition("/")[2]


def parse(source: str) -> Web | HuggingFace | None:
    """Parse the address of a source; None means that it is a name or a path.

    Raises:
        ArgumentError: if the address is malformed, has an unknown scheme, or lacks a SHA-256 where it needs one.

    >>> parse("hf://org/repo/nets/cnn.safetensors@v1")
    HuggingFace(repo='org/repo', file='nets/cnn.safetensors', revision='v1')
    >>> parse("./mine.safetensors")
    """
    scheme, found, _ = source.partition("://")
    if not found:
        return None
    match scheme.lower():
        case "hf":
            return _hugging_face(source)
        case "http" | "https":
            return _web(source)
    raise ArgumentError(
        f"source must be a name, a path, https://...#sha256=HEX or hf://org/repo/file{ENDING}@revision, got {source!r}"
    )


def split(url: str) -> tuple[str, str]:
    """Split an address into the part before the fragment and the SHA-256 in the fragment, "" if it has none.

    Raises:
        ArgumentError: if the fragment is not `sha256=` and 64 hexadecimal digits.

    >>> split("https://example.org/a")
    ('https://example.org/a', '')
    """
    url, hash_, fragment = url.partition("#")
    if not hash_:
        return url, ""
    if not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", fragment):
        raise ArgumentError(f"an address must end in #sha256= and 64 hexadecimal digits, got {fragment!r} in {url}")
    return url, fragment.removeprefix("sha256=").lower()


def is_safe(url: str) -> bool:
    """Tell whether replies from this address cannot be altered in transit: https, or a server on this machine.

    >>> is_safe("http://127.0.0.1:8000/index.json"), is_safe("http://example.org/index.json")
    (True, False)
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


def _web(source: str) -> Web:
    url, sha256 = split(source)
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise ArgumentError(f"source must be an address with a server, got {source!r}")
    if not sha256:
        raise ArgumentError(
            f"source must state the SHA-256 of the file: add #sha256=HEX to {source!r}, "
            "with the 64 digits that its publisher states, or that `sha256sum FILE` prints for a copy you trust"
        )
    return Web(url, sha256)


def _hugging_face(source: str) -> HuggingFace:
    place, _, revision = source.partition("://")[2].partition("@")
    parts = place.split("/")
    names = [*parts, *(revision or "main").split("/")]
    wrong = len(parts) < 3 or not place.endswith(ENDING) or source.endswith("@")
    if wrong or any(name in ("", ".", "..") or not name.isprintable() for name in names):
        raise ArgumentError(f"source must be hf://org/repo/path/file{ENDING}@revision, got {source!r}")
    return HuggingFace("/".join(parts[:2]), "/".join(parts[2:]), revision or "main")
