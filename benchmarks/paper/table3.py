"""Table 3: sample with the autoencoder of one zoo, conditioned on the networks of another, without training.

python -m benchmarks table3 --source mnist --target svhn --scale small --data DATA
"""

from __future__ import annotations

import time

import torch

from benchmarks.experiment import Experiment
from benchmarks.populations import Task
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser

SIZE = 15  # members of an ensemble


def main(argv: list[str]) -> None:
    """Measure and write `table3-SOURCE-TARGET-SCALE.json`."""
    made = parser("table3", __doc__)
    made.add_argument("--source", default="mnist", help="data set whose zoo the autoencoder was trained on")
    made.add_argument(
        "--target", default="svhn", help="data set whose zoo conditions the samples, and on which they are tested"
    )
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    source, target = (
        Experiment(name, scale, arguments.experiments, arguments.data) for name in (arguments.source, arguments.target)
    )
    task, train = Task.of(target.images, target.recipe().zoo), target.zoo.part("train")
    rows = {}
    for method in ("kde30", "kde30-marginal"):
        generator = torch.Generator().manual_seed(1)
        hr = source.representation().condition(train.weights, train.scores)
        weights = hr.sample(max(scale.draws, SIZE), method=method, generator=generator)
        joint = task.ensembles(task.probabilities(weights), SIZE, scale.drawn, generator)
        rows[method] = {"one model": summary(task.test(weights)), "ensemble": summary(joint)}
        shown = {kind: f"{found['mean']:.2%}, best {max(found['values']):.2%}" for kind, found in rows[method].items()}
        print(f"{arguments.source} conditioned on {arguments.target}", method, shown, flush=True)
    key = f"{arguments.source}-{arguments.target}"
    config = {"table": "table3", "key": key, "ensemble of": SIZE, **source.config()}
    print(save(f"table3-{key}-{scale.name}", command("table3", arguments), config, {"rows": rows}, began,
               arguments.out).name)  # fmt: skip
