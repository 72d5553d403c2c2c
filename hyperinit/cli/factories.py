"""Imports the callable that `module:factory` names on the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from torch import nn

from hyperinit.errors import ArgumentError, did_you_mean

FAILURES = (Exception, SystemExit)  # the user's code may raise anything, and may call sys.exit


def load_callable(name: str) -> Callable[..., Any]:
    """Import the callable that `module:attribute` names, also from the working folder, as `python -m` does.

    Raises:
        ArgumentError: if the name has another form, the module cannot be imported, or it has no such callable.

    >>> load_callable("torch.nn:Linear").__name__
    'Linear'
    """
    place, colon, attribute = name.partition(":")
    if not (place and colon and attribute):
        raise ArgumentError(f"a callable must be given as MODULE:NAME, such as mypackage.models:make_net, got {name!r}")
    try:
        with _working_folder(), _to_stderr():
            module = importlib.import_module(place)
    except FAILURES as error:
        raise ArgumentError(f"{place} must be importable, got {_named(error)}") from error
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except FAILURES as error:  # a module may have a __getattr__ of its own
            near = did_you_mean(part, dir(found))
            got = f"no {part}" if isinstance(error, AttributeError) else _named(error)
            raise ArgumentError(
                f"{place} must have the attribute {attribute}, got {got}{'; ' if near else ''}{near}"
            ) from None
    if not callable(found):
        raise ArgumentError(f"{name} must be callable, got a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def load_factory(name: str) -> Callable[[], nn.Module]:
    """Import a callable that returns a network.

    Raises:
        ArgumentError: as `load_callable`. The returned callable raises it if the user's one needs arguments, fails,
            or returns anything but a module.

    >>> load_factory("hyperinit.nets:cnn")()[0].out_channels
    8
    """
    make = load_callable(name)

    def checked() -> nn.Module:
        try:
            with _to_stderr():
                module = make()
        except FAILURES as error:
            raise ArgumentError(
                f"{name} must return a network when called without arguments, got {_named(error)}"
            ) from error
        if not isinstance(module, nn.Module):
            raise ArgumentError(f"{name} must return a torch.nn.Module, got a {type(module).__name__}")
        return module

    return checked


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _to_stderr() -> redirect_stdout[TextIO]:
    """Send what the user's code prints to stderr, so that stdout holds the command's answer alone."""
    return redirect_stdout(sys.stderr)


@contextmanager
def _working_folder() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the imported module may have changed the path
            sys.path.remove(folder)
