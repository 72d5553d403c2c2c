"""Arguments and output of `hyperinit train --model`."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hyperinit.cli.arguments import check_seed, in_options, memory
from hyperinit.cli.factories import load_callable
from hyperinit.cli.printing import tell
from hyperinit.cli.sources import RUNS as RUNS_CODE
from hyperinit.errors import ArgumentError, one_line, shown
from hyperinit.files.texts import read_json
from hyperinit_training.recipes.presets import PRESETS
from hyperinit_training.sources.from_checkpoints import make

SEEDS = range(-(2**63), 2**63)  # that the header of an artifact can state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for a zoo of the user's own checkpoints."""
    own = parser.add_argument_group("a zoo of your own checkpoints")
    own.add_argument(
        "--model", metavar="MODULE:FACTORY", help=f"importable callable that makes the network; {RUNS_CODE}"
    )
    own.add_argument(
        "--scores",
        metavar="FILE",
        help=".csv or .json file with the columns file, score, epoch; default ZOO/scores.csv",
    )
    own.add_argument(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        help=f"returns a network's score; must not use test images; {RUNS_CODE}",
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


def answer(arguments: argparse.Namespace, run: Path) -> tuple[str, dict[str, Any]]:
    """Train on the zoo in the arguments, and return the text and the data to print.

    Args:
        arguments: of `hyperinit train`.
        run: folder for work in progress.
    """
    check_seed(arguments.seed, SEEDS)
    made = make(
        arguments.zoo,
        model=arguments.model,
        out=arguments.out,
        run=run,
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
        report=lambda note: tell(f"hyperinit: {in_options(note, arguments.options)}"),
    )
    size = arguments.out.stat().st_size
    card = in_options(str(made.representation.card), arguments.options)
    notes = [in_options(note, arguments.options) for note in made.notes]
    text = f"{card}\n\nwrote {one_line(arguments.out)} ({size / 1e6:.1f} MB)"
    return text, {"file": str(arguments.out), "bytes": size, **asdict(made.usability), "notes": notes}


def _example(shape: str | None) -> torch.Tensor | None:
    if shape is None:
        return None
    try:
        sides = [int(side) for side in shape.split("x")]
    except ValueError:
        sides = []
    if not sides or min(sides) < 1 or 8 * math.prod(sides) > memory():  # two inputs of 4-byte numbers
        raise ArgumentError(f"--input must be a shape such as 3x32x32, got {shown(shape)}")
    return torch.zeros(2, *sides)


def _groups(path: Path | None) -> dict[str, tuple[str | None, ...]] | None:
    if path is None:
        return None
    wanted = '--groups must be JSON of tensor names and the group of each axis, such as {"0.weight": ["a", null]}'
    try:
        data = read_json(path)
    except ArgumentError as error:
        raise ArgumentError(f"{wanted}, got {error}") from None
    if not isinstance(data, dict) or not all(map(_is_axes, data.values())):
        raise ArgumentError(f"{wanted}, got {one_line(path)}, which holds {shown(data)}")
    return {name: tuple(found) for name, found in data.items()}


def _is_axes(value: object) -> bool:
    return isinstance(value, list) and all(group is None or isinstance(group, str) for group in value)
