"""Every error that this library raises itself.

Each class is also the built-in error that a caller would expect, so `except ValueError` keeps working.
"""

from __future__ import annotations

import re

LONGEST = 1000  # characters of what a refusal quotes
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # or worse in a terminal


class HyperinitError(Exception):
    """Base class: `except HyperinitError` catches anything this library raises itself."""


class UnknownNameError(HyperinitError, KeyError):
    """No source, method, fit or recipe has this name."""

    def __str__(self) -> str:
        """Return the message as written; KeyError would show its repr."""
        return str(self.args[0])


class ArgumentError(HyperinitError, ValueError):
    """An argument has a value or a shape that it may not have."""


class LayoutError(HyperinitError, ValueError):
    """The tensors of a module, a file or a zoo are not the ones that a layout lists."""


class ArtifactError(HyperinitError, ValueError):
    """A hyper-representation file is missing, cut off, altered or of another format."""


class PlanError(HyperinitError, ValueError):
    """Too little of the module would be decoded, or its parameters cannot be written."""


class ZooError(HyperinitError, ValueError):
    """A model zoo is incomplete, holds NaN, or does not fit what it is used for."""


class DataError(HyperinitError, ValueError):
    """Images are missing or are not in the format that their place promises."""


class DownloadError(HyperinitError, OSError):
    """A file could not be fetched from the network, or the network is forbidden."""


class MissingExtraError(HyperinitError, ImportError):
    """A command needs packages that `pip install hyperinit[train]` brings."""


def shown(value: object) -> str:
    """Return a value as text for a message, cut to 80 characters.

    >>> shown("a" * 100)[-5:]
    'aa...'
    """
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**80 else "a number of over 80 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
