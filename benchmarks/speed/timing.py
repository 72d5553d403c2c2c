"""Interleaved timings: ours, peer, ours, peer. Other load on the machine then slows both equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Effort:
    """Effort for a row: `runs` of each call; `small` takes sizes for tests, whose times mean nothing."""

    runs: int = 5
    small: bool = False

    def size(self, full: int, small: int) -> int:
        """Return `full`, or `small` if the effort is small."""
        return small if self.small else full


@dataclass(frozen=True)
class Case:
    """One figure of a row.

    Args:
        case: name of the figure.
        unit: unit of all numbers, for example "s" or "1/s"; higher rates and lower times are better.
        ours: median, least and largest of the runs, and their number.
        peer: the same of the alternative, or None.
        floor: the best that the hardware allows, in the same unit, or None.
        reckoned: how the floor was computed.
        target: the goal, in words.
        note: a remark for the reader.
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
        """Return plain data, with `ratio` (how many times better than the peer) and `share_of_floor` (1 reaches it)."""
        ratio = None if self.peer is None else round(self._times_better(self.peer["median"]), 3)
        share = None if self.floor is None else round(self._times_better(self.floor), 4)
        return {**asdict(self), "ratio": ratio, "share_of_floor": share}

    def _times_better(self, other: float) -> float:
        ours = self.ours["median"]
        return ours / other if "/" in self.unit else other / ours


def interleaved(calls: Mapping[str, Callable[[], object]], runs: int, repeat: int = 1) -> dict[str, list[float]]:
    """Time the calls in turn, `runs` times each, after one turn that is not measured.

    Each measurement makes `repeat` calls in a row and gives the seconds of one.
    """
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
    """Return median, least, largest and number of the times, or of the rates `per` / time if `per` is given."""
    values = [per / value for value in seconds] if per else seconds
    return {
        "median": round(statistics.median(values), 7),
        "least": round(min(values), 7),
        "largest": round(max(values), 7),
        "n": len(values),
    }
