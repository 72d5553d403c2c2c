"""Downloads one file and checks its size and digest.

Each process writes a `.part` file of its own beside the target and renames it when size and digest are right. So any
number of processes may download the same file at once without a lock. An interrupted download is resumed, within one
call and in the next one.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hyperinit.errors import DownloadError
from hyperinit.files import cache
from hyperinit.files.atomic import digest
from hyperinit.hub.http import Problem, ask, insist, refusal, shown

if TYPE_CHECKING:
    import requests


CHUNK = 1 << 16  # bytes
TITLES = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file on the network.

    Args:
        urls: addresses of the file, tried in order.
        digest: in hexadecimal; "" if it is unknown, and then only the size is checked.
        algorithm: of the digest, "sha256" or "md5".
        size: in bytes; None if it is unknown.
        most: largest size in bytes; None means no limit.
        headers: of the requests, such as a token.
        name: for messages and the progress bar; "" takes the target's name.
        by_hand: how to get the file without a download, for messages; "" says to save it at the target.
    """

    urls: tuple[str, ...]
    digest: str = ""
    algorithm: str = "sha256"
    size: int | None = None
    most: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    by_hand: str = ""


@dataclass
class Part:
    """A partial download, with the validator (strong ETag or date) of the server's file that its bytes come from."""

    path: Path
    tag: str = ""
    resumed: bool = False  # its bytes come from more than one reply

    @property
    def size(self) -> int:
        """Size in bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        """Delete the file and forget its validator."""
        self.path.unlink(missing_ok=True)
        self.tag, self.resumed = "", False


def switch(offline: bool | None = None) -> str:
    """Return how to allow downloads, for messages, or "" if they are allowed.

    >>> switch(offline=True)
    'remove offline=True to download it'
    """
    if os.environ.get("HYPERINIT_OFFLINE", "") not in ("", "0"):
        return "unset HYPERINIT_OFFLINE to download it"
    return "remove offline=True to download it" if offline else ""


def fetch(wanted: Wanted, target: Path, *, offline: bool | None = None) -> None:
    """Download a file from the first of its addresses that serves it with the right size and digest.

    Args:
        wanted: the file.
        target: path to save it at. Missing folders are made, and an existing file is replaced in one step.
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does.

    Raises:
        DownloadError: if no address serves the file, it cannot be written, or downloads are forbidden.
    """
    by_hand = "by hand: " + (wanted.by_hand or f"put {' or '.join(map(shown, wanted.urls))} at {target}")
    if remedy := switch(offline):
        raise DownloadError(f"{target} is {'damaged' if target.exists() else 'missing'}; {remedy}, or {by_hand}")
    problems = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part(target, keep=bool(wanted.digest)) as part:
            for url in wanted.urls:
                problem = insist(url, partial(_once, url, part, wanted, wanted.name or target.name), lambda: part.size)
                if problem is None:
                    os.replace(part.path, target)
                    return
                problems.append(problem.text)
    except OSError as error:  # of the disk, or of a missing file of certificates
        problems.append(f"{type(error).__name__}: {error}")
    raise DownloadError(
        f"{wanted.name or target.name} could not be downloaded: {'; '.join(problems)}. Try again later, or {by_hand}. "
        "HYPERINIT_OFFLINE=1 turns downloads off"
    )


@contextmanager
def _part(target: Path, *, keep: bool) -> Iterator[Part]:
    """Give a partial download to this process alone, and leave it for the next process if it stays partial.

    It starts with the bytes that an interrupted download left, if there are any and `keep` is true. `keep` must be
    false without a digest: then no check would notice that the bytes of two downloads do not fit together.
    """
    left, note = (target.with_name(target.name + ending) for ending in (".part", ".part.tag"))
    part = Part(target.with_name(f"{target.name}.{secrets.token_hex(4)}.part"))
    try:
        if keep:
            os.replace(left, part.path)  # atomic: of two processes, one gets the bytes and the other starts from 0
            part.tag = note.read_text(encoding="utf-8")
            part.resumed = True
    except FileNotFoundError:
        part.clear()  # no bytes were left, or bytes without a validator, which cannot be resumed
    note.unlink(missing_ok=True)
    try:
        yield part
    finally:
        if keep and part.size and part.tag:
            note.write_text(part.tag, encoding="utf-8")
            os.replace(part.path, left)
        part.clear()


def _once(url: str, part: Part, wanted: Wanted, name: str) -> Problem | None:
    """Make one request for the missing bytes, append them to the part, and check the whole file."""
    start = part.size if part.tag else 0  # a part without a validator cannot be resumed
    # With If-Range, the server sends the range (206) only if its file still has this validator. Otherwise it sends the
    # whole file (200), so that bytes of two versions are never joined.
    range_ = {"Range": f"bytes={start}-", "If-Range": part.tag} if start else {}
    with ask("GET", url, {**wanted.headers, **range_}, safe=bool(wanted.digest)) as reply:
        if reply.status_code == 416 or (reply.status_code == 206 and not _continues(reply, start)):
            part.clear()  # so the next attempt requests the whole file
            return Problem(f"{shown(url)}: HTTP status {reply.status_code} for bytes from {start}", passing=True)
        if reply.status_code not in (200, 206):
            return refusal(url, reply)
        start = start if reply.status_code == 206 else 0  # 200: the file changed, or the server ignores ranges
        length = _number(reply.headers.get("Content-Length"))
        problem = _misfit(url, wanted, None if length is None else start + length)
        if problem is None:
            problem = _write(reply, part, start, wanted, name)
    return problem or _verdict(url, part, wanted)


def _continues(reply: requests.Response, start: int) -> bool:
    """Tell whether a reply with status 206 begins where the part ends; some servers send another range."""
    return start > 0 and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _misfit(url: str, wanted: Wanted, size: int | None) -> Problem | None:
    """Compare the size that a server announces with the known size and the limit."""
    if size is not None and wanted.size is not None and size != wanted.size:
        return Problem(f"{shown(url)} has {size:,} bytes, expected {wanted.size:,}")
    if size is not None and wanted.most is not None and size > wanted.most:
        return Problem(f"{shown(url)} has {size:,} bytes, more than {wanted.most:,}")
    return None


def _write(reply: requests.Response, part: Part, start: int, wanted: Wanted, name: str) -> Problem | None:
    """Write the body of a reply after the first `start` bytes, with a progress bar if stderr is a terminal."""
    from tqdm import tqdm

    tag = reply.headers.get("ETag", "")
    # If-Range needs a strong validator: a weak ETag (W/) says that two files mean the same, not that bytes are equal.
    part.tag = reply.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    part.resumed = start > 0
    length = _number(reply.headers.get("Content-Length"))
    silent = not sys.stderr.isatty() or os.environ.get("HYPERINIT_PROGRESS") == "0"
    words = {"desc": name, "unit": "B", "unit_scale": True, "disable": silent}
    limit = wanted.size if wanted.size is not None else wanted.most
    with (
        part.path.open("r+b" if start else "wb") as file,
        tqdm(total=None if length is None else length + start, initial=start, **words) as bar,
    ):
        file.truncate(start)
        file.seek(start)
        for chunk in reply.raw.stream(CHUNK, decode_content=False):
            if limit is not None and file.tell() + len(chunk) > limit:
                break  # the announced length can be wrong or absent, so the limit is checked while writing
            file.write(chunk)
            bar.update(len(chunk))
        else:
            return None
    part.clear()
    return Problem(f"{shown(reply.url)} sends more than {limit:,} bytes; the download was deleted")


def _verdict(url: str, part: Part, wanted: Wanted) -> Problem | None:
    """Compare the size and digest of a finished download with the known ones."""
    if wanted.size is not None and part.size < wanted.size:
        return Problem(f"{shown(url)} ended after {part.size:,} of {wanted.size:,} bytes", passing=True)
    if not wanted.digest or (got := digest(part.path, wanted.algorithm)) == wanted.digest:
        return None
    resumed = part.resumed  # the bytes of the earlier download may be wrong, so retry with the whole file
    part.clear()
    title = TITLES[wanted.algorithm]
    return Problem(f"{shown(url)} has {title} {got}, expected {wanted.digest}; the download was deleted", resumed)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def fetched(wanted: Wanted, offline: bool | None = None) -> Path:
    """Return the cached file with the digest of `wanted`; download it first if it is not in the cache.

    Raises:
        DownloadError: if it is not in the cache and cannot be downloaded.
    """
    key = cache.name(wanted.digest, wanted.name)
    if file := cache.good(key, wanted.digest, wanted.size):
        return file
    target = (cache.path() if switch(offline) else cache.writable()) / key
    fetch(wanted, target, offline=offline)
    return target
