"""Files of tensors with a JSON header, from anybody: bounded before they are read, checked before they are believed.

Both formats, of hyper-representations and of ensembles, are safetensors files whose metadata holds one JSON text.
docs/artifact.md states what is checked and how much memory a file can make the reader take.
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

MOST_HEADER = 1 << 20  # bytes of a file's header; those of the embedded sources have 16 kB
DEEPEST = 16  # objects and lists inside each other
MOST_VALUES = 100_000  # of a header, objects and lists among them
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DTYPES = (*FLOATS, "C64", "I64", "I32", "I16", "I8", "U8", "BOOL")

Kind = TypeVar("Kind")


@contextmanager
def opened(path: Path, key: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a safetensors file; gives the JSON object under `key` of its metadata, and the file.

    Raises:
        ArtifactError: if the header is too long, damaged or not there.
        SafetensorError: if the tensors are not where the header says.
        OSError: if the file cannot be read.
    """
    _check_length(path)
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(key)
        if text is None:
            raise ArtifactError(f"a safetensors file without a {key} header")
        yield parsed(text), file


def parsed(text: str) -> dict[str, Any]:
    """Read a JSON object that holds no NaN, no infinity, no key twice, and at most 100,000 values in 16 levels.

    Raises:
        ArtifactError: if it is anything else.

    >>> parsed('{"format": 1}')
    {'format': 1}
    """
    values = sum(map(text.count, "[{,"))  # at least as many as there are; Python's objects are larger than their text
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
    """Refuse what no header holds, wherever it lies in a JSON value.

    Raises:
        ArtifactError: for numbers that are not finite or need more than 64 bits, text with control characters or
            half characters, other types, and nesting deeper than 16 levels.
    """
    stack = [(data, "header", 0)]
    while stack:
        value, where, depth = stack.pop()
        if not isinstance(value, dict | list | tuple):
            _check_leaf(value, where)
            continue
        if depth >= DEEPEST:
            raise ArtifactError(f"{where} must lie at most {DEEPEST} levels deep, it lies deeper")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
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
    """Make a dataclass from a JSON object with its fields; those that have a default may be absent.

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
    """Refuse an object that lacks a needed key or has an unknown one.

    Raises:
        ArtifactError: naming them.
    """
    missing, unknown = sorted(needed - data.keys()), sorted(data.keys() - known)
    if missing or unknown:
        lacks = f"lacks {', '.join(missing)}" if missing else f"has the unknown {shown(unknown[0])}"
        raise ArtifactError(f"{where} must have the fields {', '.join(sorted(known))}; it {lacks}")


def check_format(data: Mapping[str, Any], known: int) -> None:
    """Look at the format before any other field is believed; another one may have other fields.

    Raises:
        ArtifactError: saying which hyperinit reads the file, as far as it is known.
    """
    found, needs = data.get("format"), data.get("needs")
    if type(found) is int and found == known:
        return
    if type(found) is not int or found < 1:
        raise ArtifactError(f"format must be a positive integer, got {shown(found)}")
    named = isinstance(needs, str) and re.fullmatch(r"\d+(\.\d+){1,3}", needs)
    reader = f"hyperinit {needs} or later" if named and len(str(needs)) < 20 else "a later hyperinit"
    raise ArtifactError(f"format {found}, and this hyperinit reads format {known}; it takes {reader} to read this file")


def shapes(file: Any, dtypes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of an open file; nothing is read yet.

    Raises:
        ArtifactError: if one has a dtype that is not allowed.
    """
    found = {}
    for name in sorted(file.keys()):
        part = file.get_slice(name)
        if part.get_dtype() not in dtypes:
            raise ArtifactError(f"tensor {shown(name)} must be of {', '.join(dtypes)}, it is of {part.get_dtype()}")
        found[name] = tuple(part.get_shape())
    return found


def is_finite(value: Tensor) -> bool:
    """Say whether a tensor of floating point or complex numbers is free of NaN and infinity, without copying it.

    >>> is_finite(torch.tensor([1.0, float("nan")]))
    False
    """
    value = torch.view_as_real(value) if value.is_complex() else value
    return not value.numel() or all(math.isfinite(end) for end in map(float, value.aminmax()))


def digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of a header without its digest and of all tensors.

    >>> digest({"format": 1}, {})[:8]
    '5e5fbf8b'
    """
    found = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _check_length(path: Path) -> None:
    """Look at the file's own word on its header's length before anything is read for it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ArtifactError("something that is no file")
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
        raise ArtifactError("a damaged header: an object with the same key twice")
    return found


def _constant(name: str) -> None:
    raise ArtifactError(f"a damaged header: numbers must be finite, got {name}")
