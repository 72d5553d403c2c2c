"""Files of the Hugging Face Hub over plain HTTPS: one question about the file, one request for it.

The Hub states the SHA-256 of large files; of others only the size is known, and the digest inside an artifact is what
protects. For every address the cache holds a note of which file it gave, so that it can be found again offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from safetensors import SafetensorError, safe_open

from hyperinit.errors import ArgumentError, DownloadError
from hyperinit.files import cache
from hyperinit.files.atomic import digest, replacing
from hyperinit.hub import download, http
from hyperinit.hub import download as hub_download
from hyperinit.hub.address import HuggingFace, is_safe

ENDPOINT = "https://huggingface.co"
LARGEST = 2**31  # bytes of one artifact
HOPS = 5  # redirects within the Hub
FRESH = 60.0  # seconds for which a process does not ask about the same address again

_recent: dict[str, tuple[float, Path]] = {}  # time of the answer and the file, by address


@dataclass(frozen=True)
class Note:
    """What an address gave: the SHA-256 of the file and the Hub's name of this version, a commit or an ETag."""

    sha256: str
    version: str


@dataclass(frozen=True)
class Facts:
    """What the Hub says of a file: commit, version and SHA-256 ("" if it does not), and size in bytes."""

    commit: str
    version: str
    sha256: str
    size: int | None


def find(source: HuggingFace, offline: bool | None = None) -> Path:
    """Return the local file of a source; a branch or tag is looked up, a commit that is cached is not.

    HF_ENDPOINT names another server, and HF_TOKEN opens private repositories.

    Raises:
        ArgumentError: if HF_ENDPOINT or HF_TOKEN cannot be used.
        DownloadError: if the file can neither be found nor fetched.
    """
    url = _url(source, source.revision)
    said = download.switch(offline)
    when, path = _recent.get(url, (-FRESH, Path()))
    if time.monotonic() - when < FRESH and path.is_file():
        return path
    if (said or _is_commit(source.revision)) and (noted := _noted(url, source.name)):
        return noted
    if said:
        raise DownloadError(f"{url} is not in the cache {cache.path()} and {said}, or {_by_hand(url)}")
    facts = _facts(url)
    path = _fetched(source, url, facts)
    _recent[url] = (time.monotonic(), path)
    return path


def _fetched(source: HuggingFace, url: str, facts: Facts) -> Path:
    exact = _url(source, facts.commit or source.revision)
    if facts.sha256:
        wanted = download.Wanted(
            urls=(exact,), digest=facts.sha256, size=facts.size, most=LARGEST, headers=_token(), name=source.name
        )
        path, note = hub_download.fetched(wanted), Note(facts.sha256, facts.version)
    else:
        known = facts.version and (_noted(url, source.name, facts.version) or _noted(exact, source.name, facts.version))
        path = known or _unknown(exact, source.name, facts.size)
        note = Note(digest(path), facts.version)
    for address in {url, exact}:
        with replacing(cache.writable() / _key(address)) as temporary:
            temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
    return path


def _unknown(url: str, name: str, size: int | None) -> Path:
    """Fetch a file of which the digest is not known: its format is checked before it gets its name."""
    wanted = download.Wanted(urls=(url,), size=size, most=LARGEST, headers=_token(), name=name, by_hand=_way(url))
    with cache.incoming(_key(url)) as temporary:
        download.fetch(wanted, temporary)
        try:
            with safe_open(temporary, "pt"):
                pass  # it reads the header and compares the size of the file with it
        except SafetensorError as error:
            raise DownloadError(f"{url} is no whole safetensors file: {error}; nothing of it was kept") from None
        path = temporary.with_name(cache.name(digest(temporary), name))
        os.replace(temporary, path)
    return path


def _facts(url: str) -> Facts:
    """Ask what the Hub knows of a file."""
    found: dict[str, str] = {}

    def once() -> http.Problem | None:
        place = url
        for _ in range(HOPS):
            with http.ask("HEAD", place, _token(), safe=True, follow=False) as reply:
                found.update(
                    {key.lower(): value for key, value in reply.headers.items() if key.lower().startswith("x-")}
                )
                to = urljoin(place, reply.headers.get("Location", ""))
                if reply.is_redirect and urlsplit(to)[:2] != urlsplit(place)[:2]:
                    return None  # to the store of large files, which knows nothing more
                if not reply.is_redirect and reply.status_code != 200:
                    return http.refusal(url, reply)
                if not reply.is_redirect:
                    found["etag"] = reply.headers.get("ETag", "")
                    found["length"] = reply.headers.get("Content-Length", "")
                    return None
                place = to
        return http.Problem(f"{url}: more than {HOPS} redirects")

    if problem := http.insist(url, once):
        raise DownloadError(
            f"{problem.text}. Check the name, set HF_TOKEN if it is private, or {_by_hand(url)}. "
            "HYPERINIT_OFFLINE=1 takes what the cache holds"
        )
    commit = found.get("x-repo-commit", "")
    commit = commit if _is_commit(commit) else ""
    etag = (found.get("x-linked-etag") or found.get("etag", "")).removeprefix("W/").strip('"')
    size = found.get("x-linked-size") or found.get("length", "")
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else ""
    return Facts(commit, commit or etag, sha256, int(size) or None if size.isdecimal() else None)


def _noted(url: str, name: str, version: str | None = None) -> Path | None:
    """Return the cached file that an address gave last, if it is whole and of this version."""
    path = cache.find(_key(url))
    try:
        note = Note(**json.loads(path.read_bytes())) if path else None
    except (OSError, ValueError, TypeError):
        return None  # damaged; it is written again
    if not note or version not in (None, note.version):
        return None
    return cache.good(cache.name(str(note.sha256), name), note.sha256)


def _url(source: HuggingFace, revision: str) -> str:
    base = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not is_safe(base):
        raise ArgumentError(f"HF_ENDPOINT must be https://..., got {base!r}")
    return f"{base}/{quote(source.repo)}/resolve/{quote(revision, safe='')}/{quote(source.file)}"


def _token() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ArgumentError("HF_TOKEN must be printable ASCII without spaces")
    return {"Authorization": f"Bearer {token}"}


def _key(url: str) -> str:
    return cache.name(hashlib.sha256(url.encode()).hexdigest(), "note.json")


def _is_commit(revision: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _way(url: str) -> str:
    return f"save {url} as a file and give its path as the source"


def _by_hand(url: str) -> str:
    return f"by hand: {_way(url)}"
