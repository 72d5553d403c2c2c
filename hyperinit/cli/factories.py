"""Imports the callable that `module:factory` names on the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from hyperinit.errors import ArgumentError


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
        with _working_folder():
            module = importlib.import_module(place)
    except Exception as error:  # the user's module may raise anything
        raise ArgumentError(f"{place} must be importable, got {type(error).__name__}: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ArgumentError(f"{place} must have the attribute {attribute}, got no {part}{hint}")
        found = getattr(found, part)
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
            module = make()
        except Exception as error:  # the user's factory may raise anything
            raise ArgumentError(
                f"{name} must return a network when called without arguments, got {type(error).__name__}: {error}"
            ) from error
        if not isinstance(module, nn.Module):
            raise ArgumentError(f"{name} must return a torch.nn.Module, got a {type(module).__name__}")
        return module

    return checked


@contextmanager
def _working_folder() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
