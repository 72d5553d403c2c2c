"""The command line: `hyperinit ...`. Commands that train come from `hyperinit_training`, found by entry point."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

import hyperinit
from hyperinit import hub_commands
from hyperinit.errors import HyperinitError, MissingExtraError

COMMANDS = {
    "sources": "list the sources that come with the package",
    "methods": "list the ways to sample a source, with their measured accuracy",
    "info": "print the card of a source: zoo, images, licence, measured figures",
    "demo": "start a network from generated weights and compare it with PyTorch's default",
    "data": "fetch the official files of an image data set",
    "verify": "measure a source again on real images and compare with its card",
    "pretrain": "train a zoo and its hyper-representation from a recipe",
    "zoo": "train only the zoo of a recipe",
    "train": "train a hyper-representation on a zoo folder",
    "import-reference": "turn the authors' released autoencoder into an artifact",
}
TRAINING = ("demo", "data", "verify", "pretrain", "zoo", "train", "import-reference")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 an error that the message explains.

    Wrong usage ends the process with 2, as argparse does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in TRAINING:
            return _training_command(arguments[0])(arguments[1:])
        code = _print(_parser().parse_args(arguments))
        sys.stdout.flush()
        return code
    except HyperinitError as error:
        print(f"hyperinit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left to flush at exit has nowhere to go
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hyperinit",
        description="Start PyTorch networks from generated weights.",
        epilog="hyperinit COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"hyperinit {hyperinit.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, title in COMMANDS.items():
        command = commands.add_parser(name, help=title, description=title)
        if name in ("methods", "info"):
            command.add_argument("source", help="a name that `hyperinit sources` lists, or the path of an artifact")
    hub_commands.add(commands)
    return parser


def _print(arguments: argparse.Namespace) -> int:
    if arguments.command in hub_commands.COMMANDS:
        print(hub_commands.run(arguments)[0])
        return 0
    if arguments.command == "info":
        print(hyperinit.load(arguments.source).card)
        return 0
    lines = hyperinit.sources() if arguments.command == "sources" else hyperinit.methods(arguments.source)
    width = max(map(len, lines), default=0)
    print("\n".join(f"{name:{width}}  {title}" for name, title in lines.items()))
    return 0


def _training_command(name: str) -> Callable[[Sequence[str]], int]:
    try:
        [entry] = entry_points(group="hyperinit.commands", name=name)
        command: Callable[[Sequence[str]], int] = entry.load()
    except (ImportError, ValueError) as error:
        raise MissingExtraError(f"`hyperinit {name}` needs `pip install hyperinit[train]`, got: {error}") from None
    return command


if __name__ == "__main__":
    sys.exit(main())
