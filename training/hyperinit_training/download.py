"""The official image files: where they lie, their published MD5 digests, and how they are fetched.

A file is written to a `.part` file of its own beside the target and gets its name only when its digest is right. A
download that is cut off goes on where it was, within one command and in the next.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hyperinit.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without an answer, or without another byte
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt at one address
LATER = (408, 425, 429)  # answers besides 5xx that another attempt may change


@dataclass(frozen=True)
class Remote:
    """One official file: its name, its published MD5 in hexadecimal, and its addresses, the first one tried first."""

    name: str
    md5: str
    urls: tuple[str, ...]


def _mnist(name: str, md5: str) -> Remote:
    places = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    return Remote(name, md5, tuple(place + name for place in places))


def _one(url: str, md5: str) -> Remote:
    return Remote(url.rpartition("/")[2], md5, (url,))


FILES = {
    "mnist": (
        _mnist("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        _mnist("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        _mnist("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        _mnist("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    "svhn": (
        _one("http://ufldl.stanford.edu/housenumbers/train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        _one("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ),
    "cifar10": (_one("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    "stl10": (_one("https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb"),),
}


def fetch(name: str, data: str | Path) -> list[Path]:
    """Fetch the official files of a data set into `data/NAME`, or into `data` if some of them lie there.

    A file that is there with the right digest is not fetched again. One with another digest is never overwritten.

    Args:
        name: a key of `FILES`.
        data: folder for image data; made if need be.

    Returns:
        The paths of the files, in the order of `FILES`.

    Raises:
        UnknownNameError: for another name.
        DataError: if a file cannot be fetched, has another digest than published, or HYPERINIT_OFFLINE forbids it.
    """
    if name not in FILES:
        hint = "digits come with scikit-learn; " if name == "digits" else ""
        raise UnknownNameError(f"unknown images {name!r}; {hint}what can be fetched is {', '.join(FILES)}")
    data = Path(data)
    flat = any((data / remote.name).is_file() for remote in FILES[name])
    folder = data if flat else data / name
    return [_fetch_one(remote, folder / remote.name) for remote in FILES[name]]


def check(remote: Remote, path: Path) -> None:
    """Compare a file with the published digest.

    Raises:
        DataError: if it differs.
    """
    if (got := _md5(path)) != remote.md5:
        raise DataError(
            f"{path} must have the published MD5 {remote.md5}, got {got}; move it away and fetch {remote.urls[0]}"
        )


def _fetch_one(remote: Remote, target: Path) -> Path:
    if target.is_file():
        check(remote, target)
        return target
    manual = f"by hand: put {' or '.join(remote.urls)} at {target}"
    if os.environ.get("HYPERINIT_OFFLINE", "") not in ("", "0"):
        raise DataError(f"{target} is missing and HYPERINIT_OFFLINE forbids to fetch it; unset it, or {manual}")
    target.parent.mkdir(parents=True, exist_ok=True)
    problems = []
    with _part(target) as part:
        for url in remote.urls:
            problem = _attempts(url, part, remote)
            if problem is None:
                os.replace(part.path, target)
                return target
            problems.append(problem)
        raise DataError(f"{target.name} could not be fetched: {'; '.join(problems)}. Try again later, or {manual}")


@dataclass
class Part:
    """A file in progress and the validator (ETag or date) of the server's copy that its bytes belong to."""

    path: Path
    tag: str = ""

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        """Forget what is there."""
        self.path.unlink(missing_ok=True)
        self.tag = ""


@contextmanager
def _part(target: Path) -> Iterator[Part]:
    """Give a part of this process's own, beginning with what an interrupted one left; leave it for the next likewise.

    What is left is taken by renaming, so that of two processes one goes on with it and the other starts anew.
    """
    left, note = (target.with_name(target.name + ending) for ending in (".part", ".part.tag"))
    part = Part(target.with_name(f"{target.name}.{secrets.token_hex(4)}.part"))
    try:
        os.replace(left, part.path)
        part.tag = note.read_text(encoding="utf-8")
    except FileNotFoundError:
        part.clear()  # nothing is left, or nothing is known about it
    note.unlink(missing_ok=True)
    try:
        yield part
    finally:
        if part.size and part.tag:
            note.write_text(part.tag, encoding="utf-8")
            os.replace(part.path, left)
        part.clear()


def _attempts(url: str, part: Part, remote: Remote) -> str | None:
    """Fetch one address, again after a pause while that may help; return what is wrong, or None.

    The count of attempts begins anew whenever bytes have come.
    """
    import requests
    from urllib3.exceptions import HTTPError

    left = list(WAITS)
    while True:
        before = part.size
        try:
            status = _stream(url, part)
        except (requests.RequestException, HTTPError) as error:
            problem = f"{url}: {type(error).__name__}: {error}"
        else:
            if status < 300:
                got = _md5(part.path)
                if got == remote.md5:
                    return None
                part.clear()
                return f"{url} has MD5 {got}, expected {remote.md5}, and nothing of it was kept"
            problem = f"{url}: HTTP status {status}"
            if status == 416:  # the part is longer than the file
                part.clear()
            elif status < 500 and status not in LATER:
                return problem
        if part.size > before:
            left = list(WAITS)
        if not left:
            return problem
        time.sleep(left.pop(0))


def _stream(url: str, part: Part) -> int:
    """Ask for the bytes that are missing and append them; return the HTTP status."""
    import requests

    start = part.size if part.tag else 0
    headers = {"Accept-Encoding": "identity"}  # the file as it lies there, not unpacked on the way
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.tag}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code >= 300:
            return reply.status_code
        goes_on = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if not goes_on:
            start = 0  # another file than before, or a server that knows no ranges
        _write(reply, part, start)
        return 200


def _write(reply: requests.Response, part: Part, start: int) -> None:
    """Write the body of a reply behind the first `start` bytes, with a bar on a terminal."""
    from tqdm import tqdm

    tag = reply.headers.get("ETag", "")
    part.tag = reply.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    length = reply.headers.get("Content-Length")
    silent = not sys.stderr.isatty() or os.environ.get("HYPERINIT_PROGRESS") == "0"
    words = {"desc": part.path.name.rsplit(".", 2)[0], "unit": "B", "unit_scale": True, "disable": silent}
    with (
        part.path.open("r+b" if start else "wb") as file,
        tqdm(total=int(length) + start if length else None, initial=start, **words) as bar,
    ):
        file.truncate(start)
        file.seek(start)
        for chunk in reply.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)
            bar.update(len(chunk))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
