"""Table 9: R2 of reconstruction on the test networks of three SVHN zoos, by the autoencoders of zoos 1 and 3.

python -m benchmarks table9 --scale small --data DATA

Zoo 1 varies the seed only. Zoo 2 also varies activation, weight decay and dropout. Zoo 3 also varies initialisation and
learning rate.
"""

from __future__ import annotations

import time

from benchmarks.experiment import Experiment
from benchmarks.record import save
from benchmarks.scales import command, parse, parser
from hyperinit_training.train_autoencoder import train_autoencoder
from hyperinit_training.train_autoencoder.explained import r2
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import Zoo

ZOOS = ("svhn", "svhn-zoo2", "svhn-zoo3")


def main(argv: list[str]) -> None:
    """Measure and write `table9-svhn-SCALE.json`."""
    arguments = parse(parser("table9", __doc__), argv)
    began = time.monotonic()
    scale = arguments.scale
    experiments = {name: Experiment(name, scale, arguments.experiments, arguments.data) for name in ZOOS}
    tests = {name: experiment.zoo.part("test") for name, experiment in experiments.items()}
    rows = {name: explained(experiments[name], tests) for name in ("svhn", "svhn-zoo3")}
    for name, row in rows.items():
        print("autoencoder of", name, {key: f"{value:.1%}" for key, value in row.items()}, flush=True)
    config = {"table": "table9", "key": "svhn", **experiments["svhn"].config()}
    print(save(f"table9-svhn-{scale.name}", command("table9", arguments), config, {"rows": rows}, began,
               arguments.out).name)  # fmt: skip


def explained(experiment: Experiment, tests: dict[str, Zoo]) -> dict[str, float]:
    """Return R2 for each zoo of `tests`: 1 is perfect, 0 is the mean training network.

    Weights are scaled by the standard deviation of their layer over the training zoo.
    """
    recipe, zoo = experiment.recipe().autoencoder, experiment.prepared()
    autoencoder = train_autoencoder(recipe, zoo, experiment.folder / "lwln")
    train = zoo.part("train").weights
    std, mean = layer_std(train, zoo.layout), train.mean(0)
    return {
        name: round(r2(autoencoder.decode(autoencoder.encode(test.weights)), test.weights, std, mean).item(), 5)
        for name, test in tests.items()
    }
