"""Run the commands `zoo`, `train` and `pretrain` in N processes.

Type `torchrun --nproc-per-node N -m -- hyperinit_training zoo ...` in place of `hyperinit zoo ...`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from hyperinit.cli import program
from hyperinit.cli.printing import tell
from hyperinit_training.machine import processes

COMMANDS = ("zoo", "train", "pretrain")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hyperinit` in every process of a `torchrun` job, or in this process alone. Only the first process prints.

    Returns:
        The exit code of `hyperinit.cli.main`, or 2 for a command that cannot share its work among processes.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with processes.started():
        if processes.count() > 1 and (not arguments or arguments[0] not in COMMANDS):
            given = arguments[0] if arguments else "nothing"
            tell(f"hyperinit: only {', '.join(COMMANDS)} run in several processes, got {given}")
            return 2
        if processes.is_first():
            return program.main(arguments)
        with redirect_stdout(io.StringIO()):
            return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
