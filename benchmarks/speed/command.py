"""Measure speed: this library compared with the usual alternatives and with the limits of the machine.

python -m benchmarks speed --row init
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import FOLDER, stamp
from benchmarks.speed import autoencoders, report, resnets, runtime, samplers, scale, zoos
from benchmarks.speed.timing import Case, Effort

JSON = FOLDER / "speed.json"
PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
ROWS: dict[str, Callable[[Effort], list[Case]]] = {
    "import": runtime.importing,
    "init": runtime.initialising,
    "decode": runtime.decoding,
    "ensemble": runtime.ensembles,
    "zoo": zoos.zoo,
    "resnet": resnets.resnets,
    "autoencoder": autoencoders.autoencoder,
    "augment": autoencoders.augment,
    "umap": samplers.umap,
    "scale": scale.scale,
}


def main(argv: list[str]) -> None:
    """Measure rows and write the page; with `--report` only write the page from the stored rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("--row", choices=ROWS, help="measure this row only; the others keep their figures")
    parser.add_argument("--runs", type=int, default=Effort.runs, help="measurements of each call")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of PyTorch; default all cores")
    parser.add_argument("--report", action="store_true", help="only write docs/speed.md, without measuring")
    arguments = parser.parse_args(argv)
    if not arguments.report:
        use(arguments.threads)
        for name in [arguments.row] if arguments.row else ROWS:
            measure(name, Effort(arguments.runs))
    PAGE.write_text(report.document(rows()))
    print(PAGE)


def use(threads: int) -> None:
    """Set the threads of PyTorch, here and in processes that rows start, whatever OMP_NUM_THREADS says."""
    torch.set_num_threads(threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def measure(name: str, effort: Effort) -> None:
    """Measure one row, store it in the JSON file beside the others, and print its table."""
    began, where = time.monotonic(), stamp()
    cases = [case.to_json() for case in ROWS[name](effort)]
    row = {**where, "threads": torch.get_num_threads(), "seconds": round(time.monotonic() - began, 1), "cases": cases}
    JSON.write_text(json.dumps({"name": "speed", "rows": {**rows(), name: row}}, indent=1) + "\n")
    print(report.section(name, row))


def rows() -> dict[str, Any]:
    """Return the stored rows by name."""
    return dict(json.loads(JSON.read_text())["rows"]) if JSON.exists() else {}
