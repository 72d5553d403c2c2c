"""Readers for the official files of the image data sets: idx, MATLAB, pickled batches and raw bytes.

Every reader validates types, shapes and label ranges. No reader runs code from a file. Letters: n images.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperinit.errors import DataError
from hyperinit_training.images.download import FILES, check

Array = NDArray[np.generic]
KEYS = ("x_train", "y_train", "x_test", "y_test")
MNIST_FILES = dict(zip(KEYS, (remote.name for remote in FILES["mnist"]), strict=True))
STL10_FILES = dict(zip(KEYS, ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"), strict=True))
CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10_TEST = "test_batch"
EXTRACTED = {"cifar10": "cifar-10-batches-py", "stl10": "stl10_binary"}  # folder inside the archive
LARGEST = 300_000_000  # bytes of one archive member; the largest genuine one, STL-10's test images, has 221 MB
AGAIN = "move it away and download it again"


def read(name: str, data: Path | None, *, verify: bool = False) -> dict[str, Array]:
    """Read the official files of a data set.

    An archive is read to its end, because its checksum is stored there. This takes half a minute for STL-10. Reading
    the extracted folder is faster.

    Args:
        name: a key of `download.FILES`.
        data: folder of the files, or a folder with a subfolder called `name`.
        verify: first compare the files with the published MD5 digests.

    Returns:
        x_train, y_train, x_test, y_test: uint8 images (n, H, W), (n, H, W, 3) or (n, 3, H, W), and
        integer labels 0..9 (n,).

    Raises:
        DataError: if files are missing, truncated, altered or in another format.
    """
    folder = _locate(name, data)
    if verify:
        for remote in FILES[name]:
            if not (folder / remote.name).is_file():
                want = f"verify=True needs {remote.name}, because only the archive has a published digest"
                raise DataError(f"{want}, got the extracted folder {folder / EXTRACTED[name]}")
            check(remote, folder / remote.name)
    return _READERS[name](folder)


def _locate(name: str, data: Path | None) -> Path:
    """Return the folder with all files of a data set, `data/NAME` or `data`."""
    folders = [] if data is None else [data / name, data]
    missing = {folder: _missing(name, folder) for folder in folders}
    for folder in folders:
        if not missing[folder]:
            return folder
    names = ", ".join(remote.name for remote in FILES[name])
    or_else = f" or the extracted folder {EXTRACTED[name]}" if name in EXTRACTED else ""
    # Name the folder that lacks fewest files; `data` itself wins a tie, because it is what the user passed.
    best = min(reversed(folders), key=lambda folder: len(missing[folder]), default=None)
    got = "no folder" if best is None else f"{best} without {', '.join(missing[best])}"
    urls = ", ".join(remote.urls[0] for remote in FILES[name])
    place = "FOLDER" if data is None else data
    raise DataError(
        f"{name} needs a folder with {names}{or_else}, or an .npz file with {', '.join(KEYS)}, got {got}. "
        f"Run `hyperinit data {name} --data {place}` to download {urls}. "
        f"Then pass data={str(place)!r} in Python or --data {place} on the command line."
    )


def _missing(name: str, folder: Path) -> list[str]:
    """List the official files that `folder` lacks; none if it has the extracted folder instead."""
    if name in EXTRACTED and (folder / EXTRACTED[name]).is_dir():
        return []
    return [remote.name for remote in FILES[name] if not (folder / remote.name).is_file()]


def _read_mnist(folder: Path) -> dict[str, Array]:
    return {key: _read_idx(folder / file, dims=3 if key[0] == "x" else 1) for key, file in MNIST_FILES.items()}


def _read_idx(path: Path, dims: int) -> Array:
    """Read an idx file of unsigned bytes: magic number, `dims` big-endian uint32 sizes, data."""
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be a complete gzip file, got {type(error).__name__}: {error}; {AGAIN}") from None
    start = 4 + 4 * dims  # bytes of the header
    magic = raw[:4].hex()  # 0000, then 08 for unsigned bytes, then the number of dimensions
    if magic != f"000008{dims:02x}" or len(raw) < start:
        raise DataError(f"{path} must be an idx file with magic number 000008{dims:02x}, got {magic or 'nothing'}")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", dims, offset=4))
    if shape[1:] != (28, 28)[: dims - 1] or len(raw) - start != math.prod(shape):
        got = f"{len(raw) - start} bytes for sizes {shape}"
        raise DataError(f"{path} must hold 28x28 images or labels, got {got}; {AGAIN}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read_svhn(folder: Path) -> dict[str, Array]:
    parts = [_read_mat(folder / remote.name) for remote in FILES["svhn"]]
    return dict(zip(KEYS, (array for part in parts for array in part), strict=True))


def _read_mat(path: Path) -> tuple[Array, Array]:
    """Read a MATLAB file of images X (32, 32, 3, n) and labels y (n, 1), where 10 stands for the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # The exceptions that scipy raises on truncated or altered files; each occurred in a trial with damaged files.
    damage = (OSError, EOFError, ValueError, TypeError, LookupError, NotImplementedError, MemoryError, zlib.error)
    try:
        found = loadmat(path, variable_names=["X", "y"])
        x, y = np.asarray(found["X"]), np.asarray(found["y"])
    except (*damage, MatReadError, UnboundLocalError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} must be a complete .mat file with X and y, got {got}; {AGAIN}") from None
    if x.dtype != np.uint8 or x.shape[:3] != (32, 32, 3) or x.ndim != 4 or y.dtype.kind not in "iu":
        got = f"{x.dtype} {x.shape} and {y.dtype} {y.shape}"
        raise DataError(f"{path} must hold uint8 images (32, 32, 3, n) and integer labels, got {got}; {AGAIN}")
    return x.transpose(3, 0, 1, 2), _digits(y, x.shape[3], 1, path) % 10  # (n, 32, 32, 3), (n,)


def _read_cifar10(folder: Path) -> dict[str, Array]:
    names = (*CIFAR10_TRAIN, CIFAR10_TEST)
    raw = _members(folder, "cifar10", names)
    parts = [_read_batch(raw[name], folder / EXTRACTED["cifar10"] / name) for name in names]
    images, labels = zip(*parts, strict=True)
    train = np.concatenate(images[:-1]), np.concatenate(labels[:-1])
    return dict(zip(KEYS, (*train, images[-1], labels[-1]), strict=True))


def _read_batch(raw: bytes, path: Path) -> tuple[Array, Array]:
    """Read a pickled batch: rows of 3,072 bytes (red, then green, then blue) and a list of labels."""
    damage = (EOFError, ValueError, TypeError, AttributeError, LookupError, MemoryError, OverflowError, ImportError)
    try:
        batch = _Unpickler(io.BytesIO(raw), encoding="bytes").load()  # Python 2 pickled text, so keys are bytes
        stub, labels = batch[b"data"], np.array(batch[b"labels"], np.int64)
        x = np.frombuffer(stub.raw, np.uint8).reshape(-1, 3, 32, 32)  # (n, 3, 32, 32)
        layout = (tuple(stub.shape), stub.code, bool(stub.by_columns))
    except (pickle.UnpicklingError, RecursionError, *damage) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} must be a complete batch of CIFAR-10, got {got}; {AGAIN}") from None
    # The bytes were read as uint8 by rows, so the pickle must declare that shape, type and order.
    if layout != ((len(x), 3072), b"u1", False) or not len(x):
        raise DataError(f"{path} must hold a uint8 array (n, 3072) by rows, got {layout}; {AGAIN}")
    return x, _digits(labels, len(x), 0, path)


class _Dtype:
    """Replaces `numpy.dtype` while a pickle is read. It keeps the type's code and builds no dtype."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and fields, which do not apply to single bytes."""


class _Array:
    """Replaces `numpy.ndarray` while a pickle is read. It keeps shape, type and bytes for `_read_batch` to validate."""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, dtype, self.by_columns, self.raw = state  # the state that ndarray.__reduce__ writes
        self.code = dtype.code


def _reconstruct(*_: Any) -> _Array:
    return _Array()


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and numeric arrays. It rejects every other type."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement class for a global, or raise UnpicklingError."""
        stubs: dict[str, Any] = {"ndarray": _Array, "dtype": _Dtype} if module == "numpy" else {}
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            stubs = {"_reconstruct": _reconstruct}
        if name not in stubs:
            raise pickle.UnpicklingError(f"the global {module}.{name} is not allowed in this file and was not loaded")
        return stubs[name]


def _read_stl10(folder: Path) -> dict[str, Array]:
    raw = _members(folder, "stl10", tuple(STL10_FILES.values()))
    place = folder / EXTRACTED["stl10"]
    arrays: dict[str, Array] = {}
    for split in ("train", "test"):
        images, labels = (STL10_FILES[f"{kind}_{split}"] for kind in "xy")
        if not raw[images] or len(raw[images]) % (3 * 96 * 96):
            got = f"{len(raw[images]):,} bytes"
            raise DataError(f"{place / images} must hold images of 3x96x96 bytes, got {got}; {AGAIN}")
        x = np.frombuffer(raw[images], np.uint8).reshape(-1, 3, 96, 96)
        arrays[f"x_{split}"] = x.transpose(0, 1, 3, 2)  # the file stores columns before rows
        arrays[f"y_{split}"] = _digits(np.frombuffer(raw[labels], np.uint8), len(x), 1, place / labels) - 1
    return arrays


def _members(folder: Path, name: str, files: Sequence[str]) -> dict[str, bytes]:
    """Read the named files from an archive, or from the folder with its extracted files. Ignore all other members."""
    [archive] = (folder / remote.name for remote in FILES[name])
    place = folder / EXTRACTED[name]
    if archive.is_file():
        found, place = _unpacked(archive, {f"{EXTRACTED[name]}/{file}": file for file in files}), archive
    else:
        found = {file: (place / file).read_bytes() for file in files if (place / file).is_file()}
    if missing := [file for file in files if file not in found]:
        raise DataError(f"{place} must hold {', '.join(files)}, but lacks {', '.join(missing)}; {AGAIN}")
    return found


def _unpacked(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Read members of a .tar.gz archive into memory; `wanted` maps their paths to the keys of the result."""
    found = {}
    try:
        with gzip.open(archive) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
            for member in tar:
                file = wanted.get(member.name.removeprefix("./"))
                # Skip links, and members that are too large to be genuine.
                stream = tar.extractfile(member) if file and member.isfile() and member.size <= LARGEST else None
                if file and stream:
                    found[file] = stream.read()
            while raw.read(1 << 20):
                pass  # the gzip checksum is validated only at the end of the file
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(
            f"{archive} must be a complete .tar.gz file, got {type(error).__name__}: {error}; {AGAIN}"
        ) from None
    return found


def _digits(y: Array, count: int, first: int, path: Path) -> NDArray[np.int64]:
    """Check that each image has one label in `first` to `first + 9`, and return the labels as int64 (n,)."""
    if y.size != count or not count:
        raise DataError(f"{path} must hold one label for each of {count} images, got {y.size}; {AGAIN}")
    labels = y.reshape(-1).astype(np.int64)
    if labels.min() < first or labels.max() > first + 9:
        got = f"{labels.min()} to {labels.max()}"
        raise DataError(f"{path} must hold labels of {first} to {first + 9}, got {got}; {AGAIN}")
    return labels


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    "mnist": _read_mnist,
    "svhn": _read_svhn,
    "cifar10": _read_cifar10,
    "stl10": _read_stl10,
}
