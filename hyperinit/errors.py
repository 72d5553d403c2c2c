"""Every error that this library raises itself.

Each class is also the built-in error that a caller would expect, so `except ValueError` keeps working.
"""

from __future__ import annotations

import re

LONGEST = 1000  # characters of another error that a message quotes
# Control characters, which a terminal may obey, bidirectional marks, and lone surrogates, which cannot be printed.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HyperinitError(Exception):
    """Base class: `except HyperinitError` catches anything this library raises itself."""


class UnknownNameError(HyperinitError, KeyError):
    """No source, method, fit or recipe has this name."""

    def __str__(self) -> str:
        """Return the message as written; KeyError would show its repr."""
        return str(self.args[0])


class ArgumentError(HyperinitError, ValueError):
    """An argument has a type, value or shape that is not allowed."""


class LayoutError(HyperinitError, ValueError):
    """The tensors of a module, a file or a zoo do not have the names and shapes of a layout."""


class ArtifactError(HyperinitError, ValueError):
    """A file of a hyper-representation, an ensemble or an index is missing, damaged or of another format."""


class PlanError(HyperinitError, ValueError):
    """The module cannot be initialised: too little would be decoded, or its parameters cannot be written."""


class ZooError(HyperinitError, ValueError):
    """A model zoo is incomplete, holds NaN, or does not suit its use."""


class DataError(HyperinitError, ValueError):
    """Images are missing or have an unexpected format."""


class DownloadError(HyperinitError, OSError):
    """A file could not be downloaded, or downloads are forbidden."""


class MissingExtraError(HyperinitError, ImportError):
    """A command needs packages of `pip install hyperinit[train]`."""


def shown(value: object) -> str:
    """Return a value as text for a message, in ASCII and cut to 80 characters.

    >>> shown("a" * 100)[-5:]
    'aa...'
    """
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**80 else "a number of over 80 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
