"""Write result files: the command, the configuration, the machine and every raw number."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

import hyperinit

FOLDER = Path(__file__).parent / "results"
SOURCES = ("digits", "mnist", "svhn", "cifar10", "stl10")  # the embedded sources that are measured
BARE = "init_ without calibrate"  # a row of initializer-other


class Summary(TypedDict):
    """A population's values with their mean and standard deviation."""

    mean: float
    std: float
    n: int
    values: list[float]


class Record(TypedDict):
    """A result file as JSON. The shape of `config` and `results` depends on the measurement."""

    name: str
    command: str
    config: dict[str, Any]
    hyperinit: str
    commit: str
    torch: str
    device: str
    date: str
    seconds: float
    results: dict[str, Any]


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every measurement takes."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    made.add_argument("--out", type=Path, help="folder of the result; default benchmarks/results")
    return made


def save(  # noqa: PLR0913 - the parts of a result file
    name: str,
    command: str,
    config: dict[str, Any],
    results: Mapping[str, Any],
    began: float,
    folder: Path | None = None,
) -> Path:
    """Write one result to `folder`/`name`.json and return its path.

    Args:
        name: name of the file, without its suffix.
        command: the command line that repeats the measurement.
        config: the settings it ran with.
        results: the numbers, as JSON.
        began: `time.monotonic()` when the measurement started.
        folder: where the file goes; by default benchmarks/results.
    """
    record = {
        "name": name,
        "command": command,
        "config": config,
        **stamp(),
        "seconds": round(time.monotonic() - began, 1),
        "results": results,
    }
    folder = folder or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def stamp() -> dict[str, str]:
    """Return the version and commit that were measured, the machine, and today's date."""
    return {
        "hyperinit": hyperinit.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
    }


def summary(values: list[float]) -> Summary:
    """Return mean, population standard deviation and raw values, rounded to 5 decimals.

    >>> summary([0.25, 0.75])
    {'mean': 0.5, 'std': 0.25, 'n': 2, 'values': [0.25, 0.75]}
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    return {
        "mean": round(numbers.mean().item(), 5),
        "std": round(numbers.std(correction=0).item(), 5),
        "n": len(values),
        "values": [round(value, 5) for value in values],
    }


def _commit() -> str:
    """Return the measured commit, with "-dirty" if tracked files outside benchmarks/results and docs have changed."""
    found, changed = (
        subprocess.run(["git", *words], cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False).stdout
        for words in (
            ("describe", "--always"),
            ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs"),
        )
    )
    return (found.strip() or "unknown") + "-dirty" * bool(changed)
