"""Shows how far a training is: a bar on a terminal, and a line now and then elsewhere, such as in a log file."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from hyperinit.errors import counted
from hyperinit_training.machine import processes

LINE_SECONDS = 30.0  # between two lines if standard error is not a terminal
TICK_SECONDS = 1.0  # between two drawings of a bar, whose clock then shows that the program is alive
Item = TypeVar("Item")


class Progress:
    """Show the progress of one step of a training on standard error.

    A terminal gets a bar. Otherwise a line is printed every 30 seconds, and at the end of a step that took longer.
    HYPERINIT_PROGRESS=0 switches both off. Only the first of several processes shows anything.

    Args:
        title: of the step.
        total: number of units of the whole step.
        unit: what is counted, in the singular.
        done: units that an earlier run has done.

    >>> with Progress("zoo", 3, "model") as progress:
    ...     progress.advance(2)
    ...     progress.text()
    'zoo: 2 of 3 models'
    """

    def __init__(self, title: str, total: int, unit: str, *, done: float = 0) -> None:
        self.title, self.total, self.unit, self.done, self.note = title, total, unit, done, ""
        self.first, self.began = done, time.monotonic()
        self.hidden = not processes.is_first() or not total or os.environ.get("HYPERINIT_PROGRESS") == "0"
        self.bar: tqdm[object] | None = None
        self.lines = 0
        self._stopped, self._thread = threading.Event(), threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        """Begin to show the progress."""
        if not self.hidden:
            if sys.stderr.isatty():
                words = {"total": self.total, "initial": self.done, "unit": self.unit, "dynamic_ncols": True}
                self.bar = tqdm(desc=self.title, **words)
                self._draw()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state, and stop."""
        if self.hidden:
            return
        self._stopped.set()
        self._thread.join()
        if self.bar is not None:
            self._draw()
            self.bar.close()
        elif self.lines:
            self._print()

    def start(self, done: float) -> None:
        """Count units that an earlier run has done. They do not count for the time left."""
        self.first = self.done = done

    def advance(self, units: float = 1) -> None:
        """Count finished units."""
        self.done += units

    def say(self, note: str) -> None:
        """Show a short note, such as the loss, until the next one."""
        self.note = note

    def text(self) -> str:
        """Return the progress in words: units, time left, and the note."""
        done, spent = self.done - self.first, time.monotonic() - self.began
        number = f"{self.done:,.1f}".removesuffix(".0")  # an epoch is a fraction of a network
        words = f"{self.title}: {number} of {counted(self.total, self.unit)}"
        if done > 0 and spent >= TICK_SECONDS:
            words += f", {_clock(spent / done * max(0.0, self.total - self.done))} left"
        return f"{words}, {self.note}" if self.note else words

    def _tick(self) -> None:
        while not self._stopped.wait(LINE_SECONDS if self.bar is None else TICK_SECONDS):
            if self.bar is None:
                self._print()
            else:
                self._draw()

    def _draw(self) -> None:
        assert self.bar is not None
        self.bar.n = min(round(self.done, 1), self.total)
        self.bar.set_postfix_str(self.note, refresh=False)
        self.bar.refresh()

    def _print(self) -> None:
        self.lines += 1
        sys.stderr.write(f"{self.text()}\n")
        sys.stderr.flush()


def tracked(title: str, items: Collection[Item], unit: str) -> Iterator[Item]:
    """Iterate over the items of a step and show its progress, with the item in work as the note.

    >>> list(tracked("measuring", ["kde", "local"], "method"))
    ['kde', 'local']
    """
    with Progress(title, len(items), unit) as progress:
        for item in items:
            progress.say(str(item))
            yield item
            progress.advance()
            progress.say("")


def _clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    >>> _clock(59), _clock(3725)
    ('0:59', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
