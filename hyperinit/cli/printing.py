"""What the commands print: answers on stdout and messages on stderr, whatever the terminal can show."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from hyperinit.errors import ArgumentError, printable


def show(text: str, data: Any, *, as_json: bool) -> None:
    """Print an answer as text or as JSON.

    Raises:
        ArgumentError: if stdout cannot be written, for example because a disk is full. A reader that has closed the
            pipe, such as `head`, is no error.
    """
    answer(json.dumps(_finite(data), indent=2) if as_json else text)


def answer(text: str) -> None:
    """Print one text on stdout, see `show`."""
    try:
        _write(text, sys.stdout)
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise ArgumentError(f"stdout must be a place that can be written, got: {error.strerror or error}") from None


def tell(text: str) -> None:
    """Print one message on stderr. A stderr that cannot be written is ignored, since no place is left to say so."""
    try:
        _write(text, sys.stderr)
    except OSError:
        _silence(sys.stderr)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Show warnings of the library as one line on stderr, without a place in its code, which tells a user nothing."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if category is RuntimeWarning or category.__module__.startswith("hyperinit"):
                tell(f"hyperinit: warning: {message}")
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show_warning
        yield


def flush() -> None:
    """Flush what others have printed. A stream that cannot be written is silenced, so that the exit raises nothing."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _silence(stream)


def open_streams() -> None:
    """Replace standard streams that the caller has closed (`>&-`), so that no file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the whole process


def _write(text: str, stream: TextIO) -> None:
    """Write and flush foreign text; characters that the stream cannot encode become escapes."""
    text = printable(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _silence(stream: TextIO) -> None:
    """Point a stream that cannot be written at nothing, so that its flush at exit does not raise again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream without a file, as tests have
        return


def _finite(data: Any) -> Any:
    """Return data for JSON, which has no NaN and no infinity: null stands for them."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
