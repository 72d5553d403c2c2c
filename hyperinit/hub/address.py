"""Parses the addresses of sources: `https://...#sha256=HEX` and `hf://org/repo/path/file.safetensors@revision`.

Every foreign address is split here, by `parts` or `joined`. Every address in a message passes through `shown`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from hyperinit.errors import LONGEST, ArgumentError, one_line

ENDING = ".safetensors"
LONG = 300  # characters of an address in a message
NAMED_HOST = re.compile(r"(localhost|[^:]*\.[^:]*|\[.*\]):")  # of an authority with a port


@dataclass(frozen=True)
class Web:
    """A file on a web server: its address without the fragment, and the SHA-256 in hexadecimal."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """File name: the last part of the address, with the ending .safetensors."""
        found = parts(self.url)
        last = unquote(found.path.rpartition("/")[2]) if found else ""
        return last if last.endswith(ENDING) else (last or "source") + ENDING


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
        f"source must be a name, a path, https://...#sha256=HEX or hf://org/repo/file{ENDING}@revision, "
        f"got {shown(source)!r}"
    )


def parts(url: str) -> SplitResult | None:
    """Split an http or https address; None if it is malformed, names no server or has another scheme.

    >>> parts("http://[::1/"), parts("https://example.org:port/"), parts("https://example.org/").hostname
    (None, None, 'example.org')
    """
    try:
        found = urlsplit(url)
        usable = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return None
    return found if usable else None


def joined(base: str, to: str) -> str | None:
    """Return the address that `to` means where it is read at `base`; None if that is no http or https address.

    >>> joined("https://example.org/zoo/index.json", "nets.safetensors")
    'https://example.org/zoo/nets.safetensors'
    """
    try:
        url = urljoin(base, to)
    except ValueError:
        return None
    return url if parts(url) else None


def split(url: str) -> tuple[str, str]:
    """Split an address into the part before the fragment and the SHA-256 in the fragment, "" if it has none.

    Raises:
        ArgumentError: if the fragment is not `sha256=` and 64 hexadecimal digits.

    >>> split("https://example.org/a")
    ('https://example.org/a', '')
    """
    found, hash_, fragment = url.partition("#")
    if not hash_:
        return url, ""
    if not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", fragment):
        place, mark, end = shown(url).rpartition("#")
        where = f" in {place}" if mark else ""
        raise ArgumentError(f"an address must end in #sha256= and 64 hexadecimal digits, got {end!r}{where}")
    return found, fragment.removeprefix("sha256=").lower()


def is_safe(url: str) -> bool:
    """Tell whether replies from this address cannot be altered in transit: https, or a server on this machine.

    >>> is_safe("http://127.0.0.1:8000/index.json"), is_safe("http://example.org/index.json")
    (True, False)
    """
    found = parts(url)
    return found is not None and (found.scheme == "https" or found.hostname in ("127.0.0.1", "localhost", "::1"))


def shown(address: str) -> str:
    """Return an address as text for messages and files: without user name, password, query, and other secrets.

    Of the fragment only a digest is kept. Text that is no address stays, but for `name:password@`. The result is one
    line of at most 300 characters.

    >>> shown("https://me:secret@example.org/a?token=secret")
    'https://example.org/a?...'
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return _cut(re.sub(r"(^|[/:])[^/\\:@\s]*:[^/\\@\s]*@", r"\1", address))
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if _is_whole(address, authority, rest):
        rest = authority.rpartition("@")[2] + rest[len(authority) :]
    else:
        rest = rest.rpartition("@")[2]  # where the password ends is not known: keep only what surely follows it
    rest = re.sub(r"\?[^#]*", "?...", rest, count=1)
    rest = re.sub(r"#(?!(sha256|md5)=[0-9a-fA-F]*$).*", "#...", rest, flags=re.DOTALL)
    return _cut(scheme.rpartition("@")[2] + mark + rest)


def masked(text: object, *urls: str) -> str:
    """Return a foreign text, such as the message of another library's error, without the secrets of addresses in it.

    Args:
        text: any text.
        urls: addresses that it may quote.

    >>> masked("cannot reach http://me:pw@host/a?token=b today")
    'cannot reach http://host/a?... today'
    """
    found = str(text)[: 4 * LONGEST]
    for secret in sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True):
        found = found.replace(secret, "...")
    found = re.sub(r"://[^\s/?#'\"]*@", "://", found)
    found = re.sub(r"\?[^\s'\"),>]+", "?...", found)
    return one_line(re.sub(r"[^\s/'\"(:@]+:[^\s/'\"@]*@", "", found)[:LONGEST])


def _is_whole(address: str, authority: str, rest: str) -> bool:
    """Tell whether the authority surely ends where the standard says: passwords may hold `/`, `?` and `#` unquoted."""
    try:
        _ = urlsplit(address).port
    except ValueError:
        return False
    early = "@" in rest[len(authority) :] and ":" in authority and "@" not in authority
    return not early or NAMED_HOST.match(authority) is not None


def _secrets(url: str) -> set[str]:
    """Return the texts that must not be shown of an address, also as other libraries may quote them."""
    rest = url.partition("://")[2]
    user = rest.rpartition("@")[0] if not parts(url) else re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[0]
    query = rest.partition("#")[0].partition("?")[2]
    found = {user, user.partition(":")[2], query, *re.split(r"[&=]", query)[1::2]}
    found |= {unquote(secret) for secret in found}
    found |= {quote(secret, safe, errors="replace") for secret in found for safe in ("/", "")}
    return {secret for secret in found if len(secret) > 3}  # a shorter one would cut holes into every text


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def _web(source: str) -> Web:
    url, sha256 = split(source)
    if not parts(url):
        raise ArgumentError(f"source must be an address with a server, got {shown(source)!r}")
    if not sha256:
        raise ArgumentError(
            f"source must state the SHA-256 of the file: add #sha256=HEX to {shown(source)!r}, "
            "with the 64 digits that its publisher states, or that `sha256sum FILE` prints for a copy you trust"
        )
    return Web(url, sha256)


def _hugging_face(source: str) -> HuggingFace:
    place, _, revision = source.partition("://")[2].partition("@")
    names = place.split("/")
    every = [*names, *(revision or "main").split("/")]
    wrong = len(names) < 3 or not place.endswith(ENDING) or source.endswith("@")
    if wrong or any(name in ("", ".", "..") or not name.isprintable() for name in every):
        raise ArgumentError(f"source must be hf://org/repo/path/file{ENDING}@revision, got {shown(source)!r}")
    return HuggingFace("/".join(names[:2]), "/".join(names[2:]), revision or "main")
