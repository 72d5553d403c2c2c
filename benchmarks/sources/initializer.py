"""Compare `init_` with other initialisations: accuracy by epoch, and seconds of an epoch.

python -m benchmarks initializer --source mnist --data DATA

Every initialisation is trained by the zoo's full schedule, whose rate falls to zero, with the same data orders. Seconds
are of one core.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import hyperinit
from benchmarks.experiment import data_of
from benchmarks.populations import Task
from benchmarks.record import save
from benchmarks.scales import command, parse, parser
from benchmarks.sources.full_schedule import whole
from hyperinit_training.images.dataset import load_images
from hyperinit_training.train_zoo.schedules import initial_weights


def main(argv: list[str]) -> None:
    """Measure and write `initializer-SOURCE.json`."""
    made = parser("initializer", __doc__)
    made.add_argument("--source", default="digits", help="source to measure")
    made.add_argument("--seeds", type=int, help="networks of each initialisation; by default the scale's population")
    arguments = parse(made, argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    recipe = whole(hr)
    if arguments.scale.name == "smoke":
        recipe = replace(recipe, epochs=2)
    task = Task.of(load_images(recipe.images, data_of(recipe.images, arguments.data)), recipe)
    seeds = arguments.seeds or arguments.scale.population
    rows, clocked = {}, {}
    for row, weights in starts(hr, seeds).items():
        clock = time.process_time()  # sums all threads of this process, and other processes do not count
        rows[row] = task.progress(weights, range(recipe.epochs + 1))
        per_epoch = (time.process_time() - clock) / seeds / recipe.epochs
        clocked[row] = {"seconds of an epoch": round(per_epoch, 3)}
        shown = {epoch: f"{rows[row][str(epoch)]['mean']:.2%}" for epoch in (0, 1, recipe.epochs)}
        print(arguments.source, row, shown, flush=True)
    goal = rows["PyTorch's default"][str(recipe.epochs)]["mean"]
    source = Path(arguments.source).stem
    config = {"table": "initializer", "key": source, "scale": arguments.scale.name, "seeds": seeds}
    config |= {"epochs": recipe.epochs, "recipe": recipe.to_json(), "goal": goal}
    results = {"rows": rows, "to the goal": clocked}
    name = f"initializer-{source}"
    print(save(name, command("initializer", arguments), config, results, began, arguments.out).name)


def starts(hr: hyperinit.HyperRepresentation, count: int) -> dict[str, Tensor]:
    """Return `count` networks (count, D) of each initialisation, by name; seeds are fixed."""
    found = {
        row: torch.stack([initial_weights(init, hr.layout, _generator(seed)) for seed in range(count)])
        for row, init in (
            ("PyTorch's default", "default"), ("Kaiming uniform", "kaiming_uniform"), ("orthogonal", "orthogonal")
        )
    }  # fmt: skip
    drawn = hr.sample(count, generator=_generator(0))
    found["init_"] = drawn
    found["init_ at strength 0.5"] = 0.5 * drawn + 0.5 * found["PyTorch's default"]
    rows = torch.randint(len(hr.anchors), (count,), generator=_generator(1))
    found["a checkpoint of the zoo"] = hr.anchors.weights[rows]
    found["a checkpoint plus noise"] = hr.sample(count, method="noise", generator=_generator(2))
    found["average of neighbouring checkpoints"] = hr.sample(count, method="average", generator=_generator(3))
    return found


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
