"""Speed of this library beside the usual alternatives, timed in one process on the same cores: `make bench`."""

from __future__ import annotations


def main(argv: list[str]) -> None:
    """Measure rows and write `benchmarks/results/speed.json` and `docs/speed.md`."""
    from benchmarks.speed import command  # imported here: the peer's processes import this package and must start fast

    command.main(argv)
