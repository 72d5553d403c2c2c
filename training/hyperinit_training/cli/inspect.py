"""Arguments and output of `hyperinit zoo inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from hyperinit.cli.factories import load_callable, load_factory
from hyperinit.cli.sources import RUNS
from hyperinit.errors import ArgumentError
from hyperinit_training.checkpoints.inspect import inspect_zoo
from hyperinit_training.checkpoints.read import read_checkpoints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hyperinit zoo inspect`."""
    parser.add_argument("source", metavar="DIR", help="folder, glob pattern in quotes, or .txt file of paths")
    parser.add_argument("--model", metavar="MODULE:FACTORY", help=f"importable callable that makes the network; {RUNS}")
    parser.add_argument(
        "--evaluate", metavar="MODULE:FUNCTION", help=f"returns a network's score; needs --model; {RUNS}"
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help=".csv or .json file with the columns file, score, epoch; default DIR/scores.csv",
    )


def answer(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read the zoo in the arguments, and return its description as text and as data.

    Networks with NaN are listed and left out.
    """
    model = load_factory(arguments.model) if arguments.model else None
    evaluate = load_callable(arguments.evaluate) if arguments.evaluate else None
    if evaluate is not None and model is None:
        raise ArgumentError("--evaluate needs --model, got none")
    found = read_checkpoints(arguments.source, model=model, scores=arguments.scores, skip_bad=True)
    return inspect_zoo(found, model=model, evaluate=evaluate)
