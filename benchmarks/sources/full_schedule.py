"""Train by the zoo's full schedule on the source's own task, from PyTorch's default and from `init_`.

python -m benchmarks full-schedule --source mnist --data DIR
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

import hyperinit
from benchmarks.record import parser, save, summary
from hyperinit_training.images.dataset import load_images
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.compiled_blocks import accuracy
from hyperinit_training.train_zoo.schedules import initial_weights, schedule

# name -> share of the sampled weights in the initial ones
STARTS = {"default": 0.0, "init_": 1.0, "init_ at strength 0.5": 0.5}


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/full-schedule-SOURCE.json`."""
    made = parser("full-schedule", __doc__)
    made.add_argument("--source", default="mnist", help="source to measure")
    made.add_argument("--data", type=Path, help="folder of the source's images; digits need none")
    made.add_argument("--seeds", type=int, default=10, help="networks trained from each initialisation")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    recipe = whole(hr)
    images = load_images(recipe.images, arguments.data)
    train, test = images.normalised("train"), images.normalised("test")

    def one(task: tuple[float, int]) -> float:
        strength, seed = task
        order = schedule(recipe, len(train[1]), torch.Generator().manual_seed(seed))
        trained, _ = compiled_cnn.train(start(hr, strength, seed).numpy(), *train, order)
        return float(accuracy(trained, test, recipe.activation)[-1])

    tasks = [(strength, seed) for strength in STARTS.values() for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(tasks, pool.map(one, tasks), strict=True))
    results = {
        name: summary([found[strength, seed] for seed in range(arguments.seeds)]) for name, strength in STARTS.items()
    }
    for name, row in results.items():
        print(f"{name:24} {row['mean']:.2%} +- {row['std']:.2%}")
    config = {"source": arguments.source, "seeds": arguments.seeds, "recipe": recipe.to_json()}
    command = f"python -m benchmarks full-schedule --source {arguments.source} --data DIR"
    print(save(f"full-schedule-{arguments.source}", command, config, results, began, arguments.out).name)


def whole(hr: hyperinit.HyperRepresentation) -> ZooRecipe:
    """Return a recipe that trains one network for as many epochs as the zoo's, with a rate that falls to zero."""
    made = hr.card.zoo["recipe"]
    epochs = made["epochs"] + (made["branch_epochs"] if made["families"] else 0)
    kept = {key: made[key] for key in ("images", "activation", "batch", "rate", "decay")}
    return ZooRecipe(models=1, epochs=epochs, schedule="linear", **kept)


def start(hr: hyperinit.HyperRepresentation, strength: float, seed: int) -> Tensor:
    """Return the weights (D,) that `init_` gives the source's own network at `strength`; 0 is PyTorch's default."""
    generator = torch.Generator().manual_seed(seed)
    default = initial_weights("default", hr.layout, generator)
    return strength * hr.sample(1, generator=generator)[0] + (1 - strength) * default if strength else default
