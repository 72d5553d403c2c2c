"""The command line `hyperinit ...`. The commands that train are entry points of `hyperinit_training`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from safetensors import SafetensorError

import hyperinit
from hyperinit.cli import hub, sources
from hyperinit.cli.arguments import Parser, as_typed
from hyperinit.cli.places import reason
from hyperinit.cli.printing import flush, open_streams, show, tell, warnings_told
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
130 interrupted. HYPERINIT_OFFLINE=1 forbids downloads. HYPERINIT_HOME sets the cache folder.
MODULE:NAME is imported, also from the working folder, and its code runs. So name only modules that you trust."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 an error that the message explains, 130 interrupted.

    Args:
        argv: the arguments; None takes those of the process.

    Raises:
        SystemExit: with 2 for wrong usage, with 0 for `--help` and `--version`, as argparse does.
    """
    open_streams()
    try:
        with warnings_told():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except HyperinitError as error:
        tell(f"hyperinit: {error}")
    except (OSError, SafetensorError) as error:  # of the system: a full disk, a file that must not be read
        tell(f"hyperinit: {reason(error)}; mend this, then run the same command again")
    except KeyboardInterrupt:
        tell("hyperinit: interrupted; run the same command again to resume training or a download")
        return 130
    finally:
        flush()  # also what argparse has printed before it exits
    return 1


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in TRAINING:
        return _training_command(arguments[0])(arguments[1:])
    found = _parser().parse_args(arguments)
    with as_typed(found):
        show(*found.run(found), as_json=found.json)
    return 0


def _parser() -> Parser:
    parser = Parser(
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
    parser.commands = tuple(found.choices)
    return parser


def _training_command(name: str) -> Callable[[Sequence[str]], int]:
    try:
        [entry] = entry_points(group="hyperinit.commands", name=name)
        command: Callable[[Sequence[str]], int] = entry.load()
    except (ImportError, ValueError) as error:
        raise MissingExtraError(f"`hyperinit {name}` needs `pip install hyperinit[train]`, got: {error}") from None
    return command
