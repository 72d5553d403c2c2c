"""Every error that this library raises itself, and how names, numbers and values are written in messages.

Each class is also the built-in error that a caller would expect, so `except ValueError` keeps working.
"""

from __future__ import annotations

import re
import sys
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INNER = ("hyperinit", "torch", "contextlib")  # packages whose lines no warning points at
LONGEST = 1000  # characters of another error that a message quotes
# Control characters, which a terminal may obey, bidirectional marks, and lone surrogates, which cannot be printed.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HyperinitError(Exception):
    """Base class: `except HyperinitError` catches anything this library raises itself."""

    def __str__(self) -> str:
        """Return the message as written, with control characters of foreign names escaped; KeyError shows its repr."""
        return printable(self.args[0] if len(self.args) == 1 else super().__str__())


class UnknownNameError(HyperinitError, KeyError):
    """No source, method, fit or recipe has this name."""


class ArgumentError(HyperinitError, ValueError):
    """An argument has a type, value or shape that is not allowed."""


class BatchError(ArgumentError, RuntimeError):
    """The module fails on a batch of the caller's."""


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


class WriteError(HyperinitError, OSError):
    """A file could not be written: the disk is full, the folder cannot be written, or the path is no file."""


class MissingExtraError(HyperinitError, ImportError):
    """A command needs packages of `pip install hyperinit[train]`."""


class MismatchWarning(HyperinitError, UserWarning):
    """Weights are used with inputs or activations other than those they were trained with."""


class UnusableWarning(HyperinitError, UserWarning):
    """A source is used whose own card says that it is not usable."""


def warn(message: str, kind: type[Warning]) -> None:
    """Warn at the line of code outside of this package, and outside of torch, that led here.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     warn("too wide", MismatchWarning)
    >>> found[0].category.__name__
    'MismatchWarning'
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), kind, stacklevel=level)


def shown(value: object) -> str:
    """Return a value as text for a message, in ASCII and cut to 80 characters.

    >>> shown("a" * 100)[-5:]
    'aa...'
    """
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**80 else "a number of over 80 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def printable(text: object) -> str:
    r"""Return foreign text for a terminal: control characters and bidirectional marks become escapes.

    Lines and tabs stay. Use it for every text that a file, a name or another program gives.

    >>> printable("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return UNSEEN.sub(_escaped, str(text))


def one_line(text: object) -> str:
    r"""Return foreign text as `printable` does, and escape line breaks and tabs, too. Use it for names.

    >>> one_line("conv.weight\n")
    'conv.weight\\n'
    """
    return re.sub("[\t\n]", _escaped, printable(text))


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def counted(count: int, noun: str) -> str:
    """Return a number and its noun, which gets a plural ending unless the number is 1.

    >>> counted(1, "source"), counted(2000, "family")
    ('1 source', '2,000 families')
    """
    plural = re.sub("(?<=[^aeiou])y$", "ie", noun) + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def listed(names: Iterable[object], most: int = 20) -> str:
    """Return names with commas between them; of more than `most` names, the first and the number of the others.

    >>> listed("abcd", most=2)
    'a, b and 2 more'
    """
    found = [one_line(name) for name in names]
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more:,} more" if more > 0 else "")


def did_you_mean(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return a question that names up to three known names similar to `name`, or "" if none is.

    >>> did_you_mean("Mnits", ["mnist", "svhn"])
    "did you mean 'mnist'?"
    """
    names = {other.casefold(): other for other in known}
    wanted = str(name)[:LONGEST].casefold()
    near = get_close_matches(wanted, names, n=3, cutoff=cutoff)
    if not near and len(wanted) > 2:
        near = [other for other in names if wanted in other][:3]
    return f"did you mean {' or '.join(repr(names[other]) for other in near)}?" if near else ""


def unknown(what: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that does not exist; its message suggests similar names or lists the known ones.

    >>> unknown("fit", "exat", ["auto", "exact"])
    UnknownNameError("unknown fit 'exat'; did you mean 'exact'?")
    """
    known = list(known)
    hint = did_you_mean(name, known) or f"choose from {listed(known)}"
    return UnknownNameError(f"unknown {what} {shown(name) if len(repr(name)) > 80 else repr(name)}; {hint}")
