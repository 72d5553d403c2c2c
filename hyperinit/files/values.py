"""Switches and numbers that arrive as text, from environment variables and from servers: one way to parse each.

An empty variable counts as one that is not set.
"""

from __future__ import annotations

import os
import re

from hyperinit.errors import ArgumentError, shown

TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")
LONGEST = 18  # digits: such a number fits 64 bits, and `int` refuses texts of more than 4300 digits


def integer(text: str | None) -> int | None:
    """Return the number that a foreign text of 1 to 18 decimal digits states; None for every other text.

    >>> integer("42"), integer("-1"), integer("9" * 5000)
    (42, None, None)
    """
    return int(text) if text and re.fullmatch(f"[0-9]{{1,{LONGEST}}}", text) else None


def flag(name: str, default: bool = False) -> bool:
    """Return an environment variable that is a switch.

    Raises:
        ArgumentError: if it is neither 1, true, yes or on, nor 0, false, no or off, in any case.
    """
    text = os.environ.get(name, "").strip().lower()
    if text and text not in TRUE + FALSE:
        raise ArgumentError(f"{name} must be one of {', '.join(TRUE + FALSE)}, got {shown(text)}; change or unset it")
    return text in TRUE if text else default


def whole(name: str, default: int, least: int = 0) -> int:
    """Return an environment variable that is a whole number.

    Raises:
        ArgumentError: if it is no whole number of at most 18 digits, or below `least`.
    """
    text = os.environ.get(name, "").strip()
    found = integer(text) if text else default
    if found is None or found < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {shown(text)}; change or unset it")
    return found


def seconds(name: str, default: float, most: float) -> float:
    """Return an environment variable that is a time in seconds.

    Raises:
        ArgumentError: if it is no number above 0, or above `most`.
    """
    text = os.environ.get(name, "").strip()
    try:
        found = float(text) if text else default
    except ValueError:
        found = 0.0
    if not 0 < found <= most:  # also refuses NaN
        limit = f"a number of seconds above 0 and at most {most:,.0f}"
        raise ArgumentError(f"{name} must be {limit}, got {shown(text)}; change or unset it")
    return found
