"""Downloads one file and checks its size and digest.

Each process writes a `.part` file of its own beside the target and renames it when size and digest are right. So any
number of processes may download the same file at once without a lock. An interrupted download is resumed, within one
call and in the next one. Partial files of killed processes are deleted by the next download into the same folder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hyperinit.errors import DownloadError, HyperinitError, one_line
from hyperinit.files import cache, temporary, values
from hyperinit.files.atomic import digest, settle, writing
from hyperinit.files.found import contents, is_file
from hyperinit.hub.address import shown
from hyperinit.hub.http import Deadline, Problem, ask, insist, refusal

if TYPE_CHECKING:
    import requests


CHUNK = 1 << 16  # bytes
MOST = 2**31  # bytes of a file
MOST_URLS = 16  # addresses of one file
TAG = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?")  # validators that can be sent in a header
WHOLE = (400, 412, 416, 417, 501)  # status codes with which servers refuse a range, not the file
TITLES = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file on the network.

    Args:
        urls: addresses of the file, tried in order. The first 16 are used.
        digest: in hexadecimal; "" if it is unknown, and then only the size is checked.
        algorithm: of the digest, "sha256" or "md5".
        size: in bytes; None if it is unknown.
        most: largest size in bytes.
        headers: of the requests, such as a token.
        name: for messages and the progress bar; "" takes the target's name.
        by_hand: how to get the file without a download, for messages; "" says to save it at the target.
    """

    urls: tuple[str, ...]
    digest: str = ""
    algorithm: str = "sha256"
    size: int | None = None
    most: int = MOST
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    by_hand: str = ""

    @property
    def limit(self) -> int:
        """Bytes after which the download is not the file."""
        return self.most if self.size is None else min(self.size, self.most)


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

    Raises:
        ArgumentError: if HYPERINIT_OFFLINE is neither a yes nor a no.

    >>> switch(offline=True)
    'remove offline=True to download it'
    """
    if values.flag("HYPERINIT_OFFLINE"):
        return "unset HYPERINIT_OFFLINE to download it"
    return "remove offline=True to download it" if offline else ""


def fetch(wanted: Wanted, target: Path, *, offline: bool | None = None) -> None:
    """Download a file from the first of its addresses that serves it with the right size and digest.

    The download ends after HYPERINIT_TIMEOUT seconds, with all its attempts. It takes little memory.

    Args:
        wanted: the file.
        target: path to save it at. Missing folders are made, and an existing file is replaced in one step.
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does.

    Raises:
        DownloadError: if no address serves the file, it cannot be written, or downloads are forbidden.
    """
    urls = wanted.urls[:MOST_URLS]
    by_hand = "by hand: " + (wanted.by_hand or f"put {' or '.join(map(shown, urls))} at {target}")
    if remedy := switch(offline):
        raise DownloadError(f"{target} is {'damaged' if is_file(target) else 'missing'}; {remedy}, or {by_hand}")
    deadline, problems = Deadline(), []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.sweep(target.parent)
        with _part(target, keep=bool(wanted.digest)) as part:
            for url in urls:
                once = partial(_once, url, part, wanted, wanted.name or target.name, deadline)
                problem = insist(url, once, lambda: part.size, deadline)
                if problem is None:
                    settle(part.path, target)
                    return
                problems.append(problem.text)
                if not deadline.left():
                    break
    except OSError as error:  # of the disk
        problems.append(str(error) if isinstance(error, HyperinitError) else f"{type(error).__name__}: {error}")
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
    part = Part(temporary.beside(target))
    try:
        if keep:
            _take(part, left, note)
        yield part
    finally:
        if keep and part.size and part.tag:
            _leave(part, left, note)
        part.clear()


def _take(part: Part, left: Path, note: Path) -> None:
    """Move the bytes that an interrupted download left to the part, unless they or their note are damaged."""
    try:
        tag = contents(note, 1000).decode("ascii") if is_file(note) else ""
    except (OSError, UnicodeDecodeError):
        tag = ""
    with suppress(OSError):
        if is_file(left):
            left.replace(part.path)  # atomic: of two processes, one gets the bytes and the other starts from 0
    for path in (left, note):  # what cannot be used must not be in the way of the next download either
        temporary.delete(path)
    if part.size and TAG.fullmatch(tag):
        part.tag, part.resumed = tag, True
    else:
        part.clear()  # no bytes were left, or bytes without a validator, which cannot be resumed


def _leave(part: Part, left: Path, note: Path) -> None:
    """Leave the bytes of the part and a note of their validator for the next process, or neither."""
    try:
        note.write_text(part.tag, encoding="ascii")
        part.path.replace(left)
    except OSError:  # the disk is full
        temporary.delete(note)


def _once(url: str, part: Part, wanted: Wanted, name: str, deadline: Deadline) -> Problem | None:
    """Make one request for the missing bytes, append them to the part, and check the whole file."""
    if part.size > wanted.limit:
        part.clear()
    start = part.size if part.tag else 0  # a part without a validator cannot be resumed
    # With If-Range, the server sends the range (206) only if its file still has this validator. Otherwise it sends the
    # whole file (200), so that bytes of two versions are never joined.
    range_ = {"Range": f"bytes={start}-", "If-Range": part.tag} if start else {}
    with ask("GET", url, {**wanted.headers, **range_}, safe=bool(wanted.digest), deadline=deadline) as reply:
        refused = reply.status_code in WHOLE if start else reply.status_code == 416
        if refused or (reply.status_code == 206 and not _continues(reply, start)):
            part.clear()  # so the next attempt requests the whole file
            return Problem(f"{shown(url)}: HTTP status {reply.status_code} for bytes from {start}", passing=True)
        if reply.status_code not in (200, 206):
            return refusal(url, reply)
        start = start if reply.status_code == 206 else 0  # 200: the file changed, or the server ignores ranges
        problem = _misfit(url, wanted, reply, start)
        if problem is None:
            problem = _write(reply, part, start, wanted, name)
    return problem or _verdict(url, part, wanted)


def _continues(reply: requests.Response, start: int) -> bool:
    """Tell whether a reply with status 206 begins where the part ends; some servers send another range."""
    return start > 0 and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _misfit(url: str, wanted: Wanted, reply: requests.Response, start: int) -> Problem | None:
    """Compare the size that a server announces with the known size and the limit."""
    text = reply.headers.get("Content-Length")
    length = values.integer(text)
    if text and length is None:
        return Problem(f"{shown(url)} states a size that is no number of at most {values.LONGEST} digits")
    size = None if length is None else start + length
    if size is not None and wanted.size is not None and size != wanted.size:
        return Problem(f"{shown(url)} has {size:,} bytes, expected {wanted.size:,}")
    if size is not None and size > wanted.most:
        return Problem(f"{shown(url)} has {size:,} bytes, more than {wanted.most:,}")
    return None


def _write(reply: requests.Response, part: Part, start: int, wanted: Wanted, name: str) -> Problem | None:
    """Write the body of a reply after the first `start` bytes; a disk error deletes the part."""
    tag = reply.headers.get("ETag", "")
    # If-Range needs a strong validator: a weak ETag (W/) says that two files mean the same, not that bytes are equal.
    tag = reply.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    part.tag = tag if TAG.fullmatch(tag) else ""
    part.resumed = start > 0
    try:
        with writing(part.path.parent):
            complete = _copy(reply, part.path, start, wanted.limit, name)
    except HyperinitError:
        part.clear()  # a part on a full disk would stay in the way
        raise
    if complete:
        return None
    part.clear()
    return Problem(f"{shown(reply.url)} sends more than {wanted.limit:,} bytes; the download was deleted")


def _copy(reply: requests.Response, path: Path, start: int, limit: int, name: str) -> bool:
    """Append the body of a reply to a file, with a progress bar if stderr is a terminal; False if it is too long."""
    from tqdm import tqdm

    length = values.integer(reply.headers.get("Content-Length"))
    silent = sys.stderr is None or not sys.stderr.isatty() or not values.flag("HYPERINIT_PROGRESS", True)
    words = {"desc": one_line(name)[:60], "unit": "B", "unit_scale": True, "disable": silent}
    with (
        path.open("r+b" if start else "wb") as file,
        tqdm(total=None if length is None else length + start, initial=start, **words) as bar,
    ):
        file.truncate(start)
        file.seek(start)
        # `read` and not `stream`, which trusts the sizes of chunks. The bytes are written as they come, not unpacked.
        while chunk := reply.raw.read(CHUNK, decode_content=False):
            if file.tell() + len(chunk) > limit:
                return False  # the announced length can be wrong or absent, so the limit is checked while writing
            file.write(chunk)
            bar.update(len(chunk))
    return True


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
