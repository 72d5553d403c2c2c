"""Accuracy by epoch of networks initialised from U(0, 1), as the paper's zoos of MNIST and SVHN are.

python -m benchmarks uniform-start --images svhn --data DATA

The SVHN subset has 8,190 training images, a seventh of the paper's. The same number of steps therefore takes seven
times as many epochs.
"""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.experiment import Experiment
from benchmarks.populations import Task
from benchmarks.record import save
from benchmarks.scales import command, parse, parser

POINTS = 10  # epochs at which the curve is measured


def main(argv: list[str]) -> None:
    """Measure and write `uniform-start-IMAGES.json`."""
    made = parser("uniform-start", __doc__)
    made.add_argument("--images", default="svhn")
    made.add_argument("--epochs", type=int, default=180, help="a multiple of 10")
    made.add_argument("--networks", type=int, default=4)
    arguments = parse(made, argv)
    began = time.monotonic()
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    epochs = 2 * POINTS if arguments.scale.name == "smoke" else arguments.epochs
    recipe = replace(experiment.recipe().zoo, init="uniform", epochs=epochs, snapshots=())
    task = Task.of(experiment.images, recipe)
    starts = experiment.scratch(arguments.networks, "uniform")
    row = task.progress(starts, range(epochs // POINTS, epochs + 1, epochs // POINTS))
    for epoch, found in row.items():
        print(arguments.images, "epoch", epoch, f"{found['mean']:.2%}, best {max(found['values']):.2%}", flush=True)
    config = {"table": "uniform-start", "key": arguments.images, "scale": arguments.scale.name, "epochs": epochs}
    config |= {"steps of an epoch": len(task.data.train[1]) // recipe.batch, "recipe": recipe.to_json()}
    name = f"uniform-start-{arguments.images}"
    print(save(name, command("uniform-start", arguments), config, {"rows": {"uniform": row}}, began,
               arguments.out).name)  # fmt: skip
