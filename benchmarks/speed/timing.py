"""Interleaved timings: ours, peer, ours, peer, so that a busy machine slows both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Effort:
    """How much of a row is run: `runs` of each call, and with `small` sizes that only show that the row works."""

    runs: int = 5
    small: bool = False

    def size(self, full: int, small: int) -> int:
        """Return one size or the other."""
        return small if self.small else full


@dataclass(frozen=True)
class Case:
    """One figure of a row.

    Args:
        case: what was done.
        unit: of all numbers, "s", "1/s" and such; rates are better when higher, times when lower.
        ours: median, least and largest of the runs.
        peer: likewise of what people would use instead, or None.
        floor: what the hardware allows, in the same unit, or None.
        reckoned: how the floor was reckoned.
        target: what was to be reached, in words.
        note: anything a reader should know.
    """

    case: str
    unit: str
    ours: dict[str, float]
    peer: dict[str, float] | None = None
    floor: float | None = None
    reckoned: str = ""
    target: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the ratio (how many times better than the peer) and the share of the floor reached."""
        better = (lambda a, b: a / b) if "/" in self.unit else (lambda a, b: b / a)
        ratio = None if self.peer is None else round(better(self.ours["median"], self.peer["median"]), 3)
        share = None if self.floor is None else round(better(self.ours["median"], self.floor), 4)
        return {**asdict(self), "ratio": ratio, "share_of_floor": share}


def interleaved(calls: dict[str, Callable[[], object]], runs: int, repeat: int = 1) -> dict[str, list[float]]:
    """Time each call `runs` times in turn, after one unmeasured turn; seconds of one of `repeat` calls in a row."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeat):
                call()
            if turn:
                found[name].append((time.perf_counter() - began) / repeat)
    return found


def spread(seconds: list[float], per: float | None = None) -> dict[str, float]:
    """Median, least and largest; with `per`, rates: that many things in each of the times."""
    values = [per / value for value in seconds] if per else seconds
    return {
        "median": round(statistics.median(values), 7),
        "least": round(min(values), 7),
        "largest": round(max(values), 7),
        "n": len(values),
    }
