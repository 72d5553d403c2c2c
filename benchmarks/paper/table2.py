"""Table 2: fine-tune networks of one data set on another, with the hyperparameters of the other's zoo.

python -m benchmarks table2 --source svhn --target mnist --scale small --data DATA
"""

from __future__ import annotations

import time

from torch import Tensor

from benchmarks.experiment import Experiment
from benchmarks.paper.table1 import OTHERS, held_out, populations, sample, tell
from benchmarks.populations import Task, shown
from benchmarks.record import save
from benchmarks.scales import command, parse, parser

METHODS = ("kde30", "neigh30", "gan30")


def main(argv: list[str]) -> None:
    """Measure and write `table2-SOURCE-TARGET-SCALE.json`."""
    made = parser("table2", __doc__)
    made.add_argument("--source", default="svhn", help="data set whose networks are sampled")
    made.add_argument("--target", default="mnist", help="data set on which they are fine-tuned")
    made.add_argument("--all", action="store_true", default=None, help="all methods and alignment, for Tables 10 to 13")
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    source, target = (
        Experiment(name, scale, arguments.experiments, arguments.data) for name in (arguments.source, arguments.target)
    )
    task = Task.of(target.images, target.recipe().zoo)
    starts: dict[str, Tensor] = {
        "scratch": target.scratch(scale.population),
        "fine-tuned": held_out(source, scale.population),
    }
    for method in dict.fromkeys((*METHODS, *(("kde30-marginal", *OTHERS) if arguments.all else ()))):
        if method in source.representation().methods():
            starts[method] = sample(source, "lwln", method, scale.population)
    if arguments.all:
        starts["kde30, aligned"] = sample(source, "aligned", "kde30", scale.population)
    rows = {}
    for row, weights in starts.items():
        # The population from scratch is also a row of the target's Table 1: the shared name trains it only once.
        at, name = (target, "table1 scratch") if row == "scratch" else (source, f"table2 {arguments.target} {row}")
        short, long = scale.tuned
        epochs = shown(1, short, long) if row == "scratch" else shown(1, long)
        rows[row] = populations(at, task, name, weights, epochs)
        tell(f"{arguments.source} to {arguments.target}", row, rows[row], (0, 1, short, long))
    key = f"{arguments.source}-{arguments.target}"
    config = {"table": "table2", "key": key, "epochs": [1, scale.tuned[1]], **source.config()}
    config["target"] = target.config()
    print(save(f"table2-{key}-{scale.name}", command("table2", arguments), config, {"rows": rows}, began,
               arguments.out).name)  # fmt: skip
