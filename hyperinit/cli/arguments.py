"""Reads the arguments of a command, suggests similar options, and puts messages in the words of the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from hyperinit.errors import ArgumentError, HyperinitError, did_you_mean, printable, unknown
from hyperinit.files.room import memory as memory  # training's commands take it from here

SEEDS = range(-(2**63), 2**64)  # that a torch.Generator takes
COPIES = 4  # of the weights that sampling and writing hold at the same time


class Parser(argparse.ArgumentParser):
    """A parser that suggests similar options. What it returns has `options`: the option of each Python name.

    Args:
        also: options by further Python names that messages of the library use, such as {"count": "--n"}.

    >>> parser = Parser(also={"count": "--n"})
    >>> _ = parser.add_argument("--n", type=int)
    >>> parser.parse_args(["--n", "3"]).options
    {'help': '--help', 'n': '--n', 'count': '--n'}
    """

    def __init__(self, *arguments: Any, also: Mapping[str, str] | None = None, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self.also = dict(also or {})
        self.commands: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, str]:
        """The long options by their names in Python."""
        found = re.findall(r"(?<![\w-])--[a-z][a-z-]*", self.format_usage())
        return {"help": "--help"} | {name[2:].replace("-", "_"): name for name in found} | self.also

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; an unknown command or option ends the program with usage and the most similar ones."""
        first = next(iter(args or ()), "-")
        if self.commands and not first.startswith("-") and first not in self.commands:
            self.error(str(unknown("command", first, self.commands)))
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            near = did_you_mean(rest[0].partition("=")[0], self.options.values()) if rest[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{'; ' if near else ''}{near}")
        if not hasattr(found, "options"):  # the parser of a command comes first, then the one of all commands
            found.options = self.options
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print usage and a message without control characters, and exit with 2."""
        super().error(printable(message))


@contextmanager
def as_typed(arguments: argparse.Namespace) -> Iterator[None]:
    """Put the messages of errors inside the block in the words of the command line.

    Raises:
        HyperinitError: of the same class, with the names of options in place of those of Python arguments.
    """
    try:
        yield
    except HyperinitError as error:
        text = in_options(str(error), arguments.options)
        if text == str(error):
            raise
        raise type(error)(text) from error


def in_options(text: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with options in place of Python's names.

    Args:
        text: the message.
        options: option by name in Python.

    >>> in_options("every value must be finite; pass skip_bad=True", {"skip_bad": "--skip-bad"})
    'every value must be finite; pass --skip-bad'
    >>> in_options("minutes must be above 0", {"minutes": "--minutes"})
    '--minutes must be above 0'
    """
    options = {spelled: option for name, option in options.items() for spelled in (name, name.replace("_", "-"))}
    text = re.sub(r"\S+=\S+ in Python(?:,| or) (--\S+ \S+) on the command line", r"\1", text)
    text = re.sub(r"\S+= \(on the command line: (--\S+)\)", r"\1", text)
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    text = re.sub(rf"(?<![\w.-])({names})=True\b", lambda m: options[m[1]], text)
    text = re.sub(rf"(?<![\w.-])({names})='?([\w./-]+\b)'?", lambda m: f"{options[m[1]]} {m[2]}", text)
    text = re.sub(rf"(?<=\bpass )({names})\b", lambda m: options[m[1]], text)
    return re.sub(rf"\A({names})(?= (?:must|needs)\b)", lambda m: options[m[1]], text)


def check_seed(seed: int | None, allowed: range = SEEDS) -> None:
    """Refuse a seed that a generator does not take.

    Raises:
        ArgumentError: with the range.
    """
    if seed is not None and seed not in allowed:
        raise ArgumentError(f"--seed must be from {allowed.start} to {allowed.stop - 1}, got {_number(seed)}")


def check_amount(option: str, count: int | None, each: int) -> None:
    """Refuse a number below 1, or one for which this machine has too little memory.

    Args:
        option: that the number was given by.
        count: the number; None passes.
        each: bytes in memory for each one.

    Raises:
        ArgumentError: with the range.
    """
    most = memory() // max(1, each)
    if count is not None and count < 1:
        raise ArgumentError(f"{option} must be an integer of at least 1, got {_number(count)}")
    if count is not None and count > most:
        raise ArgumentError(
            f"{option} must be at most {most:,} to fit into the memory of this machine, got {_number(count)}"
        )


def _number(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**30 else "a number of over 30 digits"


def sentence(words: Sequence[str]) -> str:
    """Return names as a text: "a", "a and b", "a, b and c".

    >>> sentence(["--data", "--steps"])
    '--data and --steps'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
