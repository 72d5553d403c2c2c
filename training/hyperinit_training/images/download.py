"""The official image files: URLs, published MD5 digests, and the download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperinit.errors import DataError, DownloadError, UnknownNameError, unknown
from hyperinit.files.atomic import digest
from hyperinit.files.found import POINTED, is_file, is_pointer
from hyperinit.hub import download

MOST = 2**32  # bytes of one file; the largest, of STL-10, has 2.6e9


@dataclass(frozen=True)
class Remote:
    """One official file: its name, its published MD5 in hexadecimal, and its URLs in the order of trial."""

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
    """Download the official files of a data set into `data/NAME`, or into `data` if it already has some of them.

    A file with the published digest is not downloaded again. A file with another digest is never overwritten.

    Args:
        name: a key of `FILES`.
        data: folder for image data, created if necessary.

    Returns:
        The paths of the files, in the order of `FILES`.

    Raises:
        UnknownNameError: if `name` is not a key of `FILES`.
        DataError: if a download fails, HYPERINIT_OFFLINE is set, or a file does not have its published digest.
    """
    if name not in FILES:
        if name != "digits":
            raise unknown("images", name, FILES)
        raise UnknownNameError(
            f"unknown images {name!r}; digits come with scikit-learn and need no download; choose from "
            f"{', '.join(FILES)}"
        )
    data = Path(data)
    flat = any(is_file(data / remote.name) for remote in FILES[name])
    folder = data if flat else data / name
    return [_fetch_one(remote, folder / remote.name) for remote in FILES[name]]


def check(remote: Remote, path: Path) -> None:
    """Compare a file with its published digest.

    Raises:
        DataError: if the digests differ, or the file cannot be read.
    """
    if is_pointer(path):
        raise DataError(f"{path} must be the published file, got {POINTED}")
    try:
        got = digest(path, "md5")
    except OSError as error:
        raise DataError(f"{path} must be a file that can be read, got: {error.strerror or error}") from None
    if got != remote.md5:
        raise DataError(
            f"{path} must have the published MD5 {remote.md5}, got {got}; move it away and download {remote.urls[0]}"
        )


def _fetch_one(remote: Remote, target: Path) -> Path:
    if is_file(target):
        check(remote, target)
        return target
    try:
        download.fetch(download.Wanted(urls=remote.urls, digest=remote.md5, algorithm="md5", most=MOST), target)
    except DownloadError as error:
        raise DataError(str(error)) from None
    return target
