"""Result files: what was run, on what, and every raw number."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import hyperinit

FOLDER = Path(__file__).parent / "results"


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that all measurements have."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    made.add_argument("--out", type=Path, help="folder of the result; default benchmarks/results")
    return made


def save(  # noqa: PLR0913 - what a result consists of
    name: str, command: str, config: dict[str, Any], results: dict[str, Any], began: float, folder: Path | None = None
) -> Path:
    """Write one result as JSON into `folder`, by default `benchmarks/results`, and return its path."""
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
    """What was measured, where and when."""
    return {
        "hyperinit": hyperinit.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and the raw values."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return {
        "mean": round(numbers.mean().item(), 5),
        "std": round(numbers.std(correction=0).item(), 5),
        "n": len(values),
        "values": [round(value, 5) for value in values],
    }


def _commit() -> str:
    """The commit that was measured, marked if the tree has changes beside what measuring itself writes."""
    found, changed = (
        subprocess.run(["git", *words], cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False).stdout
        for words in (
            ("describe", "--always"),
            ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs"),
        )
    )
    return (found.strip() or "unknown") + "-dirty" * bool(changed)


BARE = "init_ without calibrate"
