"""Figure 5: ensembles of 1 to 15 generated or trained networks, 15 random ensembles of each size.

python -m benchmarks figure5 --source svhn --data DATA         # an embedded source
python -m benchmarks figure5 --images svhn --scale small --data DATA   # an experiment
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hyperinit
from benchmarks.experiment import Experiment, data_of
from benchmarks.paper.table1 import sample
from benchmarks.populations import Task
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.zoo import ZooRecipe

POOL = 60  # networks from which ensembles are drawn
SIZES = tuple(range(1, 16))


def main(argv: list[str]) -> None:
    """Measure and write `figure5-SOURCE.json` or `figure5-IMAGES-SCALE.json`."""
    made = parser("figure5", __doc__)
    made.add_argument("--source", help="measure this embedded source")
    made.add_argument("--images", help="measure the experiment on this data set")
    arguments = parse(made, argv)
    if bool(arguments.source) == bool(arguments.images):
        made.error("give either --source or --images")
    began = time.monotonic()
    task, pools, config = _of_source(arguments) if arguments.source else _of_experiment(arguments)
    rows = {}
    for row, weights in pools.items():
        probabilities, generator = task.probabilities(weights), torch.Generator().manual_seed(0)
        sizes = [size for size in SIZES if size <= len(weights)]
        rows[row] = {
            str(size): summary(task.ensembles(probabilities, size, arguments.scale.drawn, generator)) for size in sizes
        }
        ends = [rows[row][str(size)]["mean"] for size in (sizes[0], sizes[-1])]
        print(f"{config['key']} {row:24} 1: {ends[0]:.2%}  {sizes[-1]}: {ends[1]:.2%}", flush=True)
    config = {"table": "figure5", "scale": arguments.scale.name, "pool": POOL, "combine": "probabilities", **config}
    name = f"figure5-{arguments.source}" if arguments.source else f"figure5-{arguments.images}-{arguments.scale.name}"
    print(save(name, command("figure5", arguments), config, {"rows": rows}, began, arguments.out).name)


def _of_source(arguments: argparse.Namespace) -> tuple[Task, dict[str, Tensor], dict[str, Any]]:
    """Return the task, the pools of networks (N, D) by row, and the configuration."""
    hr = hyperinit.load(arguments.source)
    name, pool = hr.card.zoo["images"]["name"], _pool(arguments)
    recipe = ZooRecipe(images=name, models=1, activation=hr.card.zoo["recipe"]["activation"])
    task = Task.of(load_images(name, data_of(name, arguments.data)), recipe)
    methods = dict.fromkeys([hr.card.recommended, "kde30", "noise", "average", "kde30-marginal"])
    generator = torch.Generator().manual_seed(1)
    pools = {method: hr.sample(pool, method=method, generator=generator) for method in methods}
    chosen = torch.randperm(len(hr.anchors), generator=generator)[:pool]
    return task, {**pools, "training networks": hr.anchors.weights[chosen]}, {"key": Path(arguments.source).stem}


def _of_experiment(arguments: argparse.Namespace) -> tuple[Task, dict[str, Tensor], dict[str, Any]]:
    """Return the task, the pools of networks (N, D) by row, and the configuration."""
    experiment = Experiment(arguments.images, arguments.scale, arguments.experiments, arguments.data)
    pool = _pool(arguments)
    task = Task.of(experiment.images, experiment.recipe().zoo)
    last = max(s.epoch for s in experiment.zoo.snapshots)
    rows = [row for row, s in enumerate(experiment.zoo.snapshots) if s.epoch == last][:pool]
    pools = {"scratch": experiment.zoo.weights[rows]}  # the zoo's networks are those trained from scratch
    for variant, suffix in (("lwln", ""), ("plain", " without LWLN"), ("aligned", ", aligned")):
        pools[f"kde30{suffix}"] = sample(experiment, variant, "kde30", pool)
    pools["kde30-marginal"] = sample(experiment, "lwln", "kde30-marginal", pool)
    return task, pools, {"key": arguments.images, **experiment.config()}


def _pool(arguments: argparse.Namespace) -> int:
    return 4 if arguments.scale.name == "smoke" else POOL
