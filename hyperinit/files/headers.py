"""Reads the JSON header of tensor files from untrusted sources: sizes are limited and all values validated.

The formats of hyper-representations and of ensembles are safetensors files whose metadata holds one JSON text.
docs/artifact.md states the checks and the most memory that reading a file can take.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from hyperinit.errors import UNSEEN, ArtifactError, shown
from hyperinit.files.found import POINTED, is_pointer

MOST_HEADER = 1 << 20  # bytes of a file's header; headers of the embedded sources have 16 kB
DEEPEST = 16  # levels of nested objects and lists
MOST_VALUES = 100_000  # of a header, including objects and lists
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DTYPES = (*FLOATS, "C64", "I64", "I32", "I16", "I8", "U8", "BOOL")

Kind = TypeVar("Kind")


@contextmanager
def opened(path: Path, key: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a safetensors file and give the JSON object under `key` of its metadata, and the file.

    Raises:
        ArtifactError: if the header is too long, damaged or missing.
        SafetensorError: if the tensors do not fit the size of the file.
        OSError: if the file cannot be read.
    """
    check_length(path)
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(key)
        if text is None:
            raise ArtifactError(f"a safetensors file without a {key} header")
        yield parsed(text), file


def parsed(text: str) -> dict[str, Any]:
    """Parse a JSON object without NaN, infinity or duplicate keys, of at most 100,000 values and 16 levels.

    Raises:
        ArtifactError: if the text is not such an object.

    >>> parsed('{"format": 1}')
    {'format': 1}
    """
    # Count before json.loads builds objects, which take far more memory than their text. Each value follows
    # one of these characters, so this is an upper bound of their number, also for damaged text.
    values = sum(map(text.count, "[{,"))
    if values > MOST_VALUES:
        raise ArtifactError(f"a damaged header: it must hold at most {MOST_VALUES:,} values, got up to {values:,}")
    try:
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"a damaged header: {type(error).__name__}: {error}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"a damaged header: it must be an object, got {shown(data)}")
    check_plain(data)
    return data


def check_plain(data: object) -> None:
    """Validate all values of nested data, to any depth.

    Raises:
        ArtifactError: for numbers that are not finite or need more than 64 bits, text with control characters or lone
            surrogates, types that JSON lacks, and nesting deeper than 16 levels.
    """
    # A stack in place of recursion: damaged data of any depth must not raise RecursionError.
    stack = [(data, "header", 0)]
    while stack:
        value, where, depth = stack.pop()
        if not isinstance(value, dict | list | tuple):
            _check_leaf(value, where)
            continue
        if depth >= DEEPEST:
            raise ArtifactError(f"{where} must lie at most {DEEPEST} levels deep, it lies deeper")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                raise ArtifactError(f"{where} must have texts as keys, got {shown(key)}")
            _check_leaf(key, where)
            stack.append((item, f"{where}.{key}"[-80:], depth + 1))


def _check_leaf(value: object, where: str) -> None:
    if isinstance(value, str):
        if UNSEEN.search(value):
            raise ArtifactError(f"{where} must hold no control characters, got {shown(value)}")
    elif isinstance(value, int | float):
        if not -(2**63) <= value < 2**63 and (isinstance(value, int) or not math.isfinite(value)):
            raise ArtifactError(f"{where} must be a finite number of at most 64 bits, got {shown(value)}")
    elif value is not None:
        raise ArtifactError(f"{where} must be plain data, got {type(value).__name__}")


def built(kind: type[Kind], data: object, where: str) -> Kind:
    """Make a dataclass from a JSON object with its fields; fields with a default may be absent.

    Raises:
        ArtifactError: if a field is unknown or missing.

    >>> from hyperinit.samplers import SamplerOptions
    >>> built(SamplerOptions, {"noise": 0.2}, "samplers")
    SamplerOptions(bandwidth=0.05, neighbours=8, noise=0.2)
    """
    if not isinstance(data, dict):
        raise ArtifactError(f"{where} must be an object, got {shown(data)}")
    needed = {field.name: field.default is MISSING for field in fields(kind)}  # type: ignore[arg-type]
    check_keys(data, {name for name, need in needed.items() if need}, set(needed), where)
    return kind(**data)


def check_keys(data: Mapping[str, Any], needed: set[str], known: set[str], where: str) -> None:
    """Compare the keys of an object with the needed and the known ones.

    Raises:
        ArtifactError: if a needed key is missing or a key is unknown; the message names them.
    """
    missing, unknown = sorted(needed - data.keys()), sorted(data.keys() - known)
    if missing or unknown:
        lacks = f"lacks {', '.join(missing)}" if missing else f"has the unknown {shown(unknown[0])}"
        raise ArtifactError(f"{where} must have the fields {', '.join(sorted(known))}; it {lacks}")


def check_format(data: Mapping[str, Any], known: int) -> None:
    """Compare the format of a header with the known one. Call this first: another format may have other fields.

    Raises:
        ArtifactError: if it is another format; the message names the hyperinit that reads it, if the header does.
    """
    found, needs = data.get("format"), data.get("needs")
    if type(found) is int and found == known:
        return
    if type(found) is not int or found < 1:
        raise ArtifactError(f"format must be a positive integer, got {shown(found)}")
    named = isinstance(needs, str) and re.fullmatch(r"\d+(\.\d+){1,3}", needs)
    reader = f"hyperinit {needs} or later" if named and len(str(needs)) < 20 else "a later hyperinit"
    raise ArtifactError(f"format {found}, and this hyperinit reads format {known}; install {reader} to read this file")


def shapes(file: Any, dtypes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of an open file by name, without reading the tensors.

    Raises:
        ArtifactError: if a tensor has another dtype than the allowed ones.
    """
    found = {}
    for name in sorted(file.keys()):
        part = file.get_slice(name)
        if part.get_dtype() not in dtypes:
            raise ArtifactError(f"tensor {shown(name)} must be of {', '.join(dtypes)}, it is of {part.get_dtype()}")
        found[name] = tuple(part.get_shape())
    return found


def is_finite(value: Tensor) -> bool:
    """Tell whether a floating point or complex tensor of any shape is free of NaN and infinity, without a copy.

    >>> is_finite(torch.tensor([1.0, float("nan")]))
    False
    """
    value = torch.view_as_real(value) if value.is_complex() else value
    return not value.numel() or all(math.isfinite(end) for end in map(float, value.aminmax()))  # NaN propagates


def digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 in hexadecimal of a header, without its field "digest", and of all tensors.

    >>> digest({"format": 1}, {})[:8]
    '5e5fbf8b'
    """
    found = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def check_length(path: Path) -> None:
    """Validate the header's length before safetensors allocates memory for the header.

    The first 8 bytes of a file state that length, and a forged file can state up to 2**64 - 1.

    Raises:
        ArtifactError: if the path is no regular file, or a Git LFS pointer, or the header is too long for the file.
        OSError: if the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # before open, which waits at a pipe
        raise ArtifactError("a path that is not a regular file")
    if is_pointer(path):
        raise ArtifactError(POINTED)
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ArtifactError(f"a header of {length:,} bytes in a file of {size:,}; it was cut off")
    if length > MOST_HEADER:
        raise ArtifactError(f"a header of {length:,} bytes, and this hyperinit reads at most {MOST_HEADER:,}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ArtifactError("a damaged header: an object with a duplicate key")
    return found


def _constant(name: str) -> None:
    raise ArtifactError(f"a damaged header: numbers must be finite, got {name}")
