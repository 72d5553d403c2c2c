"""Downloads files of the Hugging Face Hub over plain HTTPS: a HEAD request for size and digest, then the file.

The Hub states the SHA-256 of large files. Of other files it states only the size, so only the digest inside the
artifact protects them. The cache holds a note for every address that says which file it gave, for use offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from safetensors import SafetensorError, safe_open

from hyperinit.errors import ArgumentError, ArtifactError, DownloadError, WriteError
from hyperinit.files import cache, values
from hyperinit.files.atomic import digest, replacing, settle
from hyperinit.files.found import Found, contents, is_file
from hyperinit.hub import download, http
from hyperinit.hub.address import HuggingFace, is_safe, parts, shown

ENDPOINT = "https://huggingface.co"
LARGEST = 2**31  # bytes of one artifact
LARGEST_NOTE = 1 << 14  # bytes
HOPS = 5  # redirects within the Hub
LONGEST = 200  # characters of an ETag that is kept
FRESH = 60.0  # seconds after which a process looks up the same address again

_recent: dict[str, tuple[float, Found]] = {}  # when the address was looked up and its file, by address


@dataclass(frozen=True)
class Note:
    """The file of an address, as kept in the cache: its SHA-256 and its version, a commit or an ETag."""

    sha256: str
    version: str


@dataclass(frozen=True)
class Facts:
    """The Hub's reply about a file: commit, version and SHA-256 ("" if absent), and size in bytes."""

    commit: str
    version: str
    sha256: str
    size: int | None


def find(source: HuggingFace, offline: bool | None = None) -> Found:
    """Return the cached file of a source. A branch or tag is looked up first; a cached commit needs no request.

    HF_ENDPOINT names another server, and HF_TOKEN opens private repositories.

    Raises:
        ArgumentError: if HF_ENDPOINT is not safe or HF_TOKEN is malformed.
        DownloadError: if the file is not in the cache and cannot be downloaded.
    """
    url = _url(source, source.revision)
    remedy = download.switch(offline)
    recent = _recent.get(url)
    if recent and time.monotonic() - recent[0] < FRESH and _is_good(recent[1]):
        return recent[1]
    if (remedy or _is_commit(source.revision)) and (noted := _noted(url, source.name)):
        return noted
    if remedy:
        raise DownloadError(f"{shown(url)} is not in the cache {cache.path()}; {remedy}, or {_by_hand(url)}")
    found = _downloaded(source, url, _facts(url))
    _recent[url] = (time.monotonic(), found)
    return found


def _downloaded(source: HuggingFace, url: str, facts: Facts) -> Found:
    """Return the file with these facts from the cache or the Hub, and note its digest for the address."""
    exact = _url(source, facts.commit or source.revision)
    if facts.sha256:
        wanted = download.Wanted(
            urls=(exact,), digest=facts.sha256, size=facts.size, most=LARGEST, headers=_token(), name=source.name
        )
        found = Found(download.fetched(wanted), facts.sha256, source.name)
    else:
        known = facts.version and (_noted(url, source.name, facts.version) or _noted(exact, source.name, facts.version))
        found = known or _without_digest(exact, source.name, facts.size)
    _remember((url, exact), Note(str(found.digest), facts.version))
    return found


def _remember(urls: tuple[str, ...], note: Note) -> None:
    """Keep the note of the addresses of a file. Without it the file can be used, but is looked up again."""
    try:
        for url in set(urls):
            with replacing(cache.writable() / _key(url)) as temporary:
                temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
    except WriteError as error:
        warnings.warn(f"{shown(urls[0])} will not be found offline: {error}", RuntimeWarning, stacklevel=2)


def _without_digest(url: str, name: str, size: int | None) -> Found:
    """Download a file of unknown digest; it is cached only if it is a complete safetensors file."""
    wanted = download.Wanted(urls=(url,), size=size, most=LARGEST, headers=_token(), name=name, by_hand=_way(url))
    with cache.incoming(_key(url)) as temporary:
        download.fetch(wanted, temporary)
        _check_format(temporary, url)
        sha256 = digest(temporary)
        path = temporary.with_name(cache.name(sha256, name))
        try:
            settle(temporary, path)
        except OSError as error:
            raise DownloadError(f"{path} cannot be written, got: {error}; free some disk space") from None
    return Found(path, sha256, name)


def _check_format(path: Path, url: str) -> None:
    """Refuse a download that is no complete safetensors file."""
    from hyperinit.files import headers  # imports torch, which most downloads do not need

    try:
        headers.check_length(path)
        with safe_open(path, "pt"):
            pass  # opening reads the header and compares the size of the file with it
    except (OSError, SafetensorError, ArtifactError) as error:
        why = f"{shown(url)} must be a complete safetensors file, got: {error}"
        raise DownloadError(f"{why}; the download was deleted") from None


def _facts(url: str) -> Facts:
    """Request the commit, version, digest and size of a file."""
    found: dict[str, str] = {}

    deadline = http.Deadline()

    def once() -> http.Problem | None:
        place = url
        for _ in range(HOPS):
            with http.ask("HEAD", place, _token(), safe=True, deadline=deadline) as reply:
                found.update(
                    {key.lower(): value for key, value in reply.headers.items() if key.lower().startswith("x-")}
                )
                if not reply.is_redirect:
                    found["etag"] = reply.headers.get("ETag", "")
                    found["length"] = reply.headers.get("Content-Length", "")
                    return None if reply.status_code == 200 else http.refusal(url, reply)
                to = http.target(reply)
            if not to:
                return http.Problem(f"{shown(url)} redirects to a malformed address")
            if _server(to) != _server(place):
                return None  # a redirect to the store of large files, which has no further headers
            place = to
        return http.Problem(f"{shown(url)}: more than {HOPS} redirects")

    if problem := http.insist(url, once, deadline=deadline):
        raise DownloadError(
            f"{problem.text}. Check the name, set HF_TOKEN if it is private, or {_by_hand(url)}. "
            "HYPERINIT_OFFLINE=1 takes the file from the cache"
        )
    commit = found.get("x-repo-commit", "")
    commit = commit if _is_commit(commit) else ""
    etag = (found.get("x-linked-etag") or found.get("etag", "")).removeprefix("W/").strip('"')[:LONGEST]
    size = values.integer(found.get("x-linked-size") or found.get("length", ""))
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else ""
    return Facts(commit, commit or etag, sha256, size or None)


def _server(url: str) -> tuple[str, str]:
    found = parts(url)
    return (found.scheme, found.netloc) if found else ("", "")


def _noted(url: str, name: str, version: str | None = None) -> Found | None:
    """Return the cached file that an address gave last, if it is undamaged and of this version."""
    from hyperinit.files import headers

    path = cache.find(_key(url))
    try:
        note = headers.built(Note, headers.parsed(contents(path, LARGEST_NOTE).decode()), "note") if path else None
    except (OSError, ValueError):
        return None  # a damaged note, which will be written again
    if not note or version not in (None, note.version):
        return None
    path = cache.good(cache.name(str(note.sha256), name), str(note.sha256))
    return Found(path, note.sha256, name) if path else None


def _url(source: HuggingFace, revision: str) -> str:
    base = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not is_safe(base):
        raise ArgumentError(f"HF_ENDPOINT must be https://..., got {shown(base)!r}")
    return f"{base}/{quote(source.repo)}/resolve/{quote(revision, safe='')}/{quote(source.file)}"


def _token() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ArgumentError("HF_TOKEN must be printable ASCII without spaces")
    return {"Authorization": f"Bearer {token}"}


def _is_good(found: Found) -> bool:
    """Tell whether a file that was found before still has its digest."""
    return is_file(found.path) and cache.holds(found.path, str(found.digest))


def _key(url: str) -> str:
    return cache.name(hashlib.sha256(url.encode()).hexdigest(), "note.json")


def _is_commit(revision: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _way(url: str) -> str:
    return f"save {shown(url)} as a file and give its path as the source"


def _by_hand(url: str) -> str:
    return f"by hand: {_way(url)}"
