"""Arguments and output of `hyperinit train --model`."""

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
    """Add the arguments for a zoo of the user's own checkpoints."""
    own = parser.add_argument_group("a zoo of your own checkpoints")
    own.add_argument("--model", metavar="MODULE:FACTORY", help="importable callable that makes the network")
    own.add_argument(
        "--scores",
        metavar="FILE",
        help=".csv or .json file with the columns file, score, epoch; default ZOO/scores.csv",
    )
    own.add_argument(
        "--evaluate", metavar="MODULE:FUNCTION", help="returns a network's score; must not use test images"
    )
    own.add_argument(
        "--input",
        metavar="SHAPE",
        help="shape of one input, such as 3x32x32, to find symmetries; default: tries common shapes",
    )
    own.add_argument(
        "--groups",
        type=Path,
        metavar="FILE",
        help="JSON file of permutation groups, for a network that torch.fx cannot trace",
    )
    own.add_argument(
        "--preset",
        default="small",
        help=f"size of the autoencoder and its training: {', '.join(PRESETS)}; default %(default)s",
    )
    own.add_argument(
        "--minutes", type=float, help="time to train the autoencoder, in place of the preset's number of steps"
    )
    own.add_argument(
        "--holdout",
        type=float,
        default=0.15,
        help="share of networks held out to judge samples by; default %(default)s",
    )
    own.add_argument("--skip-bad", action="store_true", help="leave networks with NaN out")
    own.add_argument("--seed", type=int, default=0, help="seed of every random choice; default %(default)s")


def answer(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Train on the zoo in the arguments, and return the text and the data to print."""
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
