"""From addresses on the network to one whole, checked file.

A file is written to a `.part` file of its own beside the target and gets its name only when its size and digest are
right, so that any number of processes may fetch the same file at once without a lock. A download that is cut off goes
on where it was, within one call and in the next.
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
from hyperinit.files.atomic import digest
from hyperinit.files.cache import good, name, path, writable
from hyperinit.hub import download
from hyperinit.hub.http import Problem, ask, insist, refusal, shown

if TYPE_CHECKING:
    import requests


CHUNK = 1 << 16  # bytes
TITLES = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file on the network and what is known of it.

    Args:
        urls: its addresses, the first one tried first.
        digest: in hexadecimal; "" if nothing is known, and then whatever has the right size is taken.
        algorithm: of the digest, "sha256" or "md5".
        size: in bytes, if known.
        most: bytes that it may have at most.
        headers: to send along, such as a token.
        name: for messages and the progress bar; "" takes the target's.
        by_hand: what to do without this function; "" says to put the file where it belongs.
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
    """A file in progress and the validator (ETag or date) of the server's copy that its bytes belong to."""

    path: Path
    tag: str = ""
    resumed: bool = False  # its bytes are of more than one answer

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        """Forget what is there."""
        self.path.unlink(missing_ok=True)
        self.tag, self.resumed = "", False


def switch(offline: bool | None = None) -> str:
    """Return what forbids the network, with the way to allow it, or "" if nothing does.

    >>> switch(offline=True)
    'offline=True forbids to fetch it; leave that out'
    """
    if os.environ.get("HYPERINIT_OFFLINE", "") not in ("", "0"):
        return "HYPERINIT_OFFLINE forbids to fetch it; unset it"
    return "offline=True forbids to fetch it; leave that out" if offline else ""


def fetch(wanted: Wanted, target: Path, *, offline: bool | None = None) -> None:
    """Fetch a file, from the first of its addresses that gives the right one.

    Args:
        wanted: the file.
        target: where to put it; folders on the way are made, and a file that is there is replaced in one step.
        offline: True forbids to open a socket, as HYPERINIT_OFFLINE=1 does.

    Raises:
        DownloadError: if no address gives the file, it cannot be written, or the network is forbidden.
    """
    by_hand = "by hand: " + (wanted.by_hand or f"put {' or '.join(map(shown, wanted.urls))} at {target}")
    if said := switch(offline):
        raise DownloadError(f"{target} is {'not whole' if target.exists() else 'missing'} and {said}, or {by_hand}")
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
    except OSError as error:  # the disk, or certificates that are not there
        problems.append(f"{type(error).__name__}: {error}")
    raise DownloadError(
        f"{wanted.name or target.name} could not be fetched: {'; '.join(problems)}. Try again later, or {by_hand}. "
        "HYPERINIT_OFFLINE=1 keeps from trying"
    )


@contextmanager
def _part(target: Path, *, keep: bool) -> Iterator[Part]:
    """Give a part of this process's own, beginning with what an interrupted one left; leave it for the next likewise.

    What is left is taken by renaming, so that of two processes one goes on with it and the other starts anew. Without
    a digest to check the whole by, nothing is taken or left.
    """
    left, note = (target.with_name(target.name + ending) for ending in (".part", ".part.tag"))
    part = Part(target.with_name(f"{target.name}.{secrets.token_hex(4)}.part"))
    try:
        if keep:
            os.replace(left, part.path)
            part.tag = note.read_text(encoding="utf-8")
            part.resumed = True
    except FileNotFoundError:
        part.clear()  # nothing is left, or nothing is known about it
    note.unlink(missing_ok=True)
    try:
        yield part
    finally:
        if keep and part.size and part.tag:
            note.write_text(part.tag, encoding="utf-8")
            os.replace(part.path, left)
        part.clear()


def _once(url: str, part: Part, wanted: Wanted, name: str) -> Problem | None:
    """Ask for the bytes that are missing, append them and check the whole."""
    start = part.size if part.tag else 0
    range_ = {"Range": f"bytes={start}-", "If-Range": part.tag} if start else {}
    with ask("GET", url, {**wanted.headers, **range_}, safe=bool(wanted.digest)) as reply:
        if reply.status_code == 416 or (reply.status_code == 206 and not _goes_on(reply, start)):
            part.clear()  # the next attempt asks for all of it
            return Problem(f"{shown(url)}: HTTP status {reply.status_code} for bytes from {start}", passing=True)
        if reply.status_code not in (200, 206):
            return refusal(url, reply)
        start = start if reply.status_code == 206 else 0  # 200: another file than before, or no ranges are known
        length = _number(reply.headers.get("Content-Length"))
        problem = _misfit(url, wanted, None if length is None else start + length)
        if problem is None:
            problem = _write(reply, part, start, wanted, name)
    return problem or _verdict(url, part, wanted)


def _goes_on(reply: requests.Response, start: int) -> bool:
    return start > 0 and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _misfit(url: str, wanted: Wanted, size: int | None) -> Problem | None:
    """Compare the size that a server announces, or that has come so far, with what is known."""
    if size is not None and wanted.size is not None and size != wanted.size:
        return Problem(f"{shown(url)} has {size:,} bytes, expected {wanted.size:,}")
    if size is not None and wanted.most is not None and size > wanted.most:
        return Problem(f"{shown(url)} has {size:,} bytes, more than {wanted.most:,}")
    return None


def _write(reply: requests.Response, part: Part, start: int, wanted: Wanted, name: str) -> Problem | None:
    """Write the body of a reply behind the first `start` bytes, with a bar on a terminal."""
    from tqdm import tqdm

    tag = reply.headers.get("ETag", "")
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
                break
            file.write(chunk)
            bar.update(len(chunk))
        else:
            return None
    part.clear()
    return Problem(f"{shown(reply.url)} sends more than {limit:,} bytes, and nothing of it was kept")


def _verdict(url: str, part: Part, wanted: Wanted) -> Problem | None:
    """Compare a body that came to its end with what is known of the file."""
    if wanted.size is not None and part.size < wanted.size:
        return Problem(f"{shown(url)} ended after {part.size:,} of {wanted.size:,} bytes", passing=True)
    if not wanted.digest or (got := digest(part.path, wanted.algorithm)) == wanted.digest:
        return None
    resumed = part.resumed  # the first bytes may be at fault, so the whole deserves an attempt
    part.clear()
    title = TITLES[wanted.algorithm]
    return Problem(f"{shown(url)} has {title} {got}, expected {wanted.digest}, and nothing of it was kept", resumed)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def fetched(wanted: download.Wanted, offline: bool | None = None) -> Path:
    """Return the cached file with the digest of `wanted`, which is fetched if it is not there.

    Raises:
        DownloadError: if it can neither be found nor fetched.
    """
    key = name(wanted.digest, wanted.name)
    if file := good(key, wanted.digest, wanted.size):
        return file
    target = (path() if download.switch(offline) else writable()) / key
    download.fetch(wanted, target, offline=offline)
    return target
