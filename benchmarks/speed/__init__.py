"""Speed: what people would use instead, timed in the same process on the same cores; `make bench`."""

from __future__ import annotations


def main(argv: list[str]) -> None:
    """Run rows and write `benchmarks/results/speed.json` and `docs/speed.md`."""
    from benchmarks.speed import command  # here, for a peer's processes import this package

    command.main(argv)
