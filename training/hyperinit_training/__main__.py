"""`torchrun --nproc-per-node N -m -- hyperinit_training zoo ...`: the commands of the console script in N processes."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from hyperinit.cli import program
from hyperinit_training.machine import processes

COMMANDS = ("zoo", "train", "pretrain")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hyperinit` in every process of a `torchrun` job, or in this one alone; the first of them answers.

    Returns the exit code: 2 for a command that would do everything N times, else that of `hyperinit.cli.main`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with processes.started():
        if processes.count() > 1 and (not arguments or arguments[0] not in COMMANDS):
            given = arguments[0] if arguments else "nothing"
            sys.stderr.write(f"hyperinit: several processes share the work of {', '.join(COMMANDS)}, got {given}\n")
            return 2
        if processes.is_first():
            return program.main(arguments)
        with redirect_stdout(io.StringIO()):
            return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
