"""The command line `hyperinit ...`. The commands that train are entry points of `hyperinit_training`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

import hyperinit
from hyperinit.cli import hub, sources
from hyperinit.errors import HyperinitError, MissingExtraError

TRAINING = {
    "demo": "start a network from generated weights and compare it with PyTorch's default",
    "data": "download the official files of an image data set",
    "verify": "measure a source again on real images and compare the results with its card",
    "pretrain": "train a zoo and its hyper-representation from a recipe",
    "zoo": "train only the zoo of a recipe, or inspect a folder of checkpoints",
    "train": "train a hyper-representation on a zoo",
    "import-reference": "turn the authors' released autoencoder into an artifact",
}
EXAMPLES = """examples:
  hyperinit demo                                  # the main job, in seconds
  hyperinit info svhn                             # the card of a source: zoo, images, measured figures
  hyperinit plan mypackage.models:make_net        # what init_ would do to your network
  hyperinit sample svhn --n 15 --out ensemble.safetensors
  hyperinit train --zoo checkpoints/ --model mypackage.models:make_net --out mine.safetensors

For the options of a command: hyperinit COMMAND --help. Commands that print information take --json.
Exit codes: 0 done; 1 an error that the message on stderr explains, or figures that disagree; 2 wrong usage;
130 interrupted. HYPERINIT_OFFLINE=1 forbids downloads. HYPERINIT_HOME sets the cache folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 an error that the message explains, 130 interrupted.

    Args:
        argv: the arguments; None takes those of the process.

    Raises:
        SystemExit: with 2 for wrong usage, with 0 for `--help` and `--version`, as argparse does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in TRAINING:
            code = _training_command(arguments[0])(arguments[1:])
        else:
            found = _parser().parse_args(arguments)
            show(*found.run(found), as_json=found.json)
            code = 0
        sys.stdout.flush()
        return code
    except HyperinitError as error:
        print(f"hyperinit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hyperinit: interrupted; run the same command again to resume training or a download", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that flushing stdout at exit does not raise again
        return 0


def show(text: str, data: Any, *, as_json: bool) -> None:
    """Print an answer as text or as JSON."""
    print(json.dumps(data, indent=2) if as_json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hyperinit",
        description="Start PyTorch networks from generated weights.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hyperinit {hyperinit.__version__}")
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sources.add(found)
    hub.add(found)
    for name, title in TRAINING.items():  # for --help only: these commands have their own parsers
        found.add_parser(name, help=title)
    return parser


def _training_command(name: str) -> Callable[[Sequence[str]], int]:
    try:
        [entry] = entry_points(group="hyperinit.commands", name=name)
        command: Callable[[Sequence[str]], int] = entry.load()
    except (ImportError, ValueError) as error:
        raise MissingExtraError(f"`hyperinit {name}` needs `pip install hyperinit[train]`, got: {error}") from None
    return command
