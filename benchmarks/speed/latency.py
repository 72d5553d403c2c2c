"""Seconds of the import, of the first `init_` of a process, of later ones, and of an ensemble.

python -m benchmarks latency --source mnist
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import hyperinit
from benchmarks.record import parser, save

FRESH = """
import time, torch
began = time.perf_counter()
import hyperinit
imported = time.perf_counter()
model = hyperinit.nets.cnn()
start = time.perf_counter()
hyperinit.init_(model, {source!r})
print(imported - began, time.perf_counter() - start)
"""


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/latency.json`: median and worst, in seconds."""
    made = parser("latency", __doc__)
    made.add_argument("--source", default="mnist", help="source to measure")
    made.add_argument("--runs", type=int, default=9, help="fresh processes")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    fresh = [_fresh(arguments.source) for _ in range(arguments.runs)]
    model = hyperinit.nets.cnn(hyperinit.load(arguments.source).card.preprocessing["channels"])
    results = {
        "import hyperinit after torch": _spread([first for first, _ in fresh]),
        "init_, first of a process": _spread([second for _, second in fresh]),
        "init_, warm": _spread(_times(lambda: hyperinit.init_(model, arguments.source), 200)),
        "ensemble(n=15), warm": _spread(_times(lambda: hyperinit.ensemble(15, arguments.source), 30)),
    }
    for name, row in results.items():
        print(f"{name:30} median {row['median'] * 1e3:8.2f} ms, worst {row['worst'] * 1e3:8.2f} ms")
    config = {"source": arguments.source, "fresh processes": arguments.runs}
    command = f"python -m benchmarks latency --source {arguments.source}"
    print(save("latency", command, config, results, began, arguments.out).name)


def _fresh(source: str) -> tuple[float, float]:
    """Return seconds of the import and of the first call, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH.format(source=source)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.split()
    return float(first), float(second)


def _times(call: Callable[[], object], count: int) -> list[float]:
    found = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found[count // 10 :]  # the first calls fill caches


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 6), "worst": round(max(values), 6), "n": len(values)}
