"""The options that `init_`, `ensemble` and `plan` share: their names, their defaults, and the check of their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from hyperinit.errors import ArgumentError, shown, unknown

FITS = ("auto", "exact", "flat", "layerwise")
FILLS = ("default", "keep", "zoo")
Patterns = str | Iterable[str] | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """Decide which weights are sampled and where they are written; values are checked when the object is built.

    Args:
        method: how to sample; None takes the method that the source recommends.
        strength: s in [0, 1], see `apply_`; None leaves the choice to `init_`, which takes 1.
        fit: one of `FITS`, see `make_plan`.
        fill: one of `FILLS`, see `make_plan`.
        include: patterns of the names of parameters to write; None means all. Stored as a tuple.
        exclude: patterns of the names of parameters to leave unchanged. Stored as a tuple.
        skip_frozen: whether to leave parameters with `requires_grad=False` unchanged.
        members: number of networks side by side in a wider module; None takes as many as fit, at most 16.
        spread: whether several networks come from as many families of the zoo as there are.

    Raises:
        UnknownNameError: if there is no such fit or fill.
        ArgumentError: if another option has a wrong type, `members` is below 1, or `strength` is not in [0, 1].

    >>> Options(include="features.*").include
    ('features.*',)
    """

    method: str | None = None
    strength: float | None = None
    fit: str = "auto"
    fill: str = "default"
    include: Patterns = None
    exclude: Patterns = None
    skip_frozen: bool = False
    members: int | None = None
    spread: bool = True

    def __post_init__(self) -> None:
        """Check the values, and store patterns as tuples."""
        if not isinstance(self.method, str | None):
            raise ArgumentError(f"method must be the name of a method or None, got {shown(self.method)}")
        for name in ("skip_frozen", "spread"):
            if type(getattr(self, name)) is not bool:
                raise ArgumentError(f"{name} must be True or False, got {shown(getattr(self, name))}")
        _check_name("fit", self.fit, FITS)
        _check_name("fill", self.fill, FILLS)
        if self.strength is not None:
            check_strength(self.strength)
        if self.members is not None and (type(self.members) is not int or self.members < 1):
            raise ArgumentError(f"members must be None or an integer of at least 1, got {shown(self.members)}")
        for name in ("include", "exclude"):  # an iterator can be read only once: keep what it yields
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))

    def agreeing(self, given: Mapping[str, Any]) -> Options:
        """Return the options of a plan, combined with the arguments that were passed beside it.

        Args:
            given: by name. Each must equal the plan's option, except a strength that the plan leaves open.

        Raises:
            ArgumentError: if an argument contradicts the plan; the message names all of them.

        >>> Options(fit="flat").agreeing({"strength": 0.5}).strength
        0.5
        """
        asked = replace(self, **given)
        wrong = [
            name
            for name in given
            if getattr(asked, name) != getattr(self, name) and (name, self.strength) != ("strength", None)
        ]
        if wrong:
            fixed, got = (
                ", ".join(f"{name}={getattr(options, name)!r}" for name in wrong) for options in (self, asked)
            )
            raise ArgumentError(f"plan= fixes {fixed}, got {got}; leave it out or make a new plan")
        return asked


@dataclass(frozen=True)
class Default:
    """The default of an argument; an object of its own, so that a function can tell whether the argument was passed.

    >>> Default("auto")
    'auto'
    """

    value: Any

    def __repr__(self) -> str:
        """Return the value as `help` shows it in a signature."""
        return repr(self.value)


DEFAULTS: Any = SimpleNamespace(**{option.name: Default(option.default) for option in fields(Options)})


def passed(**arguments: Any) -> dict[str, Any]:
    """Return those arguments that a caller passed: those that are not a `Default`.

    >>> passed(fit=DEFAULTS.fit, fill="keep")
    {'fill': 'keep'}
    """
    return {name: value for name, value in arguments.items() if not isinstance(value, Default)}


def check_strength(strength: float) -> None:
    """Refuse a strength that is not a number in [0, 1].

    Raises:
        ArgumentError: with the value.
    """
    _check_share("strength", strength)


def check_min_share(min_share: float) -> None:
    """Refuse a least share that is not a number in [0, 1].

    Raises:
        ArgumentError: with the value.
    """
    _check_share("min_share", min_share)


def _check_share(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArgumentError(f"{what} must be in [0, 1], got {shown(value)}")


def _check_name(what: str, name: object, names: tuple[str, ...]) -> None:
    if not isinstance(name, str) or name not in names:  # an array compares with each name
        raise unknown(what, name, names)


def _patterns(what: str, patterns: Patterns) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    if not isinstance(patterns, Iterable) or isinstance(patterns, bytes | Tensor | nn.Module | Mapping):
        raise ArgumentError(f"{what} must be a pattern or several patterns, got {shown(patterns)}")
    found = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in found:
        if not isinstance(pattern, str):
            raise ArgumentError(f"{what} must hold only strings, got {shown(pattern)}")
    return found
