"""Print the commands that measure all of docs/results.md, in an order that respects their dependencies.

python -m benchmarks pieces --scale small --data DATA | sh -e

A command that was interrupted resumes when it is run again. Zoos, autoencoders and trained populations that exist are
not made again. The last command writes the report.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.record import SOURCES
from benchmarks.scales import VARIANTS, parse, parser

DIGITS, PHOTOGRAPHS = ("mnist", "svhn"), ("cifar10", "stl10")  # the paper's domains: one channel, three channels


def main(argv: list[str]) -> None:
    """Print the commands, one a line."""
    arguments = parse(parser("pieces", __doc__), argv)
    data = f" --data {arguments.data}" if arguments.data else ""
    for piece in pieces():
        print(f"python -m benchmarks {piece} --scale {arguments.scale.name}{data}")
    print("python -m benchmarks report")


def pieces() -> Iterator[str]:
    """Yield the name and the options of every measurement except the report.

    >>> list(pieces())[:2]
    ['prepare --images mnist --part zoo', 'prepare --images svhn --part zoo']
    """
    images = (*DIGITS, *PHOTOGRAPHS)
    yield from (f"prepare --images {name} --part zoo" for name in images)
    yield from (f"prepare --images {name} --part {variant}" for name in images for variant in VARIANTS)
    yield from (f"table1 --images {name} --all" for name in images)
    for first, second in (DIGITS, PHOTOGRAPHS):
        for source, target in ((first, second), (second, first)):
            yield f"table2 --source {source} --target {target} --all"
            yield f"table3 --source {source} --target {target}"
    yield "table4"
    yield "table9"
    yield from (f"{figure} --images svhn" for figure in ("figure3", "figure3 --part train", "figure6"))
    yield from (f"{figure} --images {name}" for figure in ("figure5", "figures-weights") for name in images)
    yield from (f"novelty --images {name}" for name in DIGITS)
    yield "uniform-start --images svhn"
    for source in SOURCES:
        yield from (f"{name} --source {source}" for name in ("figure5", "novelty", "initializer", "initializer-other"))
