"""Reads text files that a person wrote or a program exported: lists, tables, JSON and TOML."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from hyperinit.errors import ArgumentError, one_line, printable

LARGEST = 64 * 2**20  # bytes of one text file


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that some editors write.

    Raises:
        ArgumentError: if the file cannot be read, is not UTF-8, or has more than 64 MiB. The message names it.
    """
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ArgumentError(f"{one_line(path)} must have at most {LARGEST:,} bytes, got {size:,}")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"{one_line(path)} must be a file that can be read, got: {reason}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"the byte 0x{raw[error.start]:02x}"
        raise ArgumentError(f"{one_line(path)} must be UTF-8 text, got {kind}; save it again as UTF-8") from None


def read_json(path: Path) -> Any:
    """Return the data of a JSON file. Numbers without a value of their own, such as NaN, are returned as floats.

    Raises:
        ArgumentError: as `read_text`, or if the text is not JSON, or is nested too deep.
    """
    return _parsed(json.loads, path, "JSON")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the data of a TOML file.

    Raises:
        ArgumentError: as `read_text`, or if the text is not TOML, or is nested too deep.
    """
    found: dict[str, Any] = _parsed(tomllib.loads, path, "TOML")
    return found


def _parsed(parse: Any, path: Path, kind: str) -> Any:
    text = read_text(path)
    try:
        return parse(text)
    except RecursionError:
        raise ArgumentError(
            f"{one_line(path)} must be {kind} of a few levels, got one that is nested too deep"
        ) from None
    except ValueError as error:
        raise ArgumentError(f"{one_line(path)} is not {kind}: {printable(error)}") from None
