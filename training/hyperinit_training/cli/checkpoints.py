"""`hyperinit train --model`: what it takes on the command line, and its answer."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hyperinit.cli.factories import load_callable
from hyperinit.errors import ArgumentError
from hyperinit_training.recipes.presets import PRESETS
from hyperinit_training.sources.from_checkpoints import make


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a zoo of somebody's own checkpoints needs."""
    own = parser.add_argument_group("a zoo of your own checkpoints")
    own.add_argument("--model", metavar="MODULE:FACTORY", help="importable callable that makes the network")
    own.add_argument("--scores", metavar="FILE", help=".csv or .json of file, score, epoch; default ZOO/scores.csv")
    own.add_argument("--evaluate", metavar="MODULE:FUNCTION", help="gives a network's score; no test images in it")
    own.add_argument("--input", metavar="SHAPE", help="of one input, such as 3x32x32, to find symmetries; else guessed")
    own.add_argument("--groups", type=Path, metavar="FILE", help="permutation groups written down, as JSON")
    own.add_argument("--preset", default="small", help=f"{', '.join(PRESETS)}; default %(default)s")
    own.add_argument("--minutes", type=float, help="of training the autoencoder, instead of the preset's steps")
    own.add_argument("--holdout", type=float, default=0.15, help="share of networks to judge by; default %(default)s")
    own.add_argument("--skip-bad", action="store_true", help="leave networks with NaN out")
    own.add_argument("--seed", type=int, default=0, help="decides everything; default %(default)s")


def answer(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Train on the zoo that the arguments name, and say what came of it."""
    made = make(
        arguments.zoo,
        model=arguments.model,
        out=arguments.out,
        run=arguments.run,
        scores=arguments.scores,
        evaluate=load_callable(arguments.evaluate) if arguments.evaluate else None,
        example_input=_example(arguments.input),
        groups=_groups(arguments.groups),
        preset=arguments.preset,
        minutes=arguments.minutes,
        holdout=arguments.holdout,
        skip_bad=arguments.skip_bad,
        seed=arguments.seed,
        device=arguments.device,
    )
    size = arguments.out.stat().st_size
    text = f"{made.representation.card}\n\nwrote {arguments.out} ({size / 1e6:.1f} MB)"
    return text, {"file": str(arguments.out), "bytes": size, **asdict(made.usability), "notes": list(made.notes)}


def _example(shape: str | None) -> torch.Tensor | None:
    if shape is None:
        return None
    try:
        return torch.zeros(2, *(int(side) for side in shape.split("x")))
    except (ValueError, RuntimeError):
        raise ArgumentError(f"--input must be a shape such as 3x32x32, got {shape!r}") from None


def _groups(path: Path | None) -> dict[str, tuple[str | None, ...]] | None:
    if path is None:
        return None
    try:
        return {name: tuple(found) for name, found in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(
            f"--groups must be JSON of tensor names and the group of each axis, such as "
            f'{{"0.weight": ["a", null]}}, got {path}: {error}'
        ) from None
