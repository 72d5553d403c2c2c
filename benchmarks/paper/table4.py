"""Table 4: weights generated for MNIST's network start other architectures, which are trained on SVHN.

python -m benchmarks table4 --scale small --data DATA

The random start is PyTorch's and, where the source's zoo starts from U(0, 1) as the paper's does, that too: the paper
does not say which it took. The networks of a row train side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import hyperinit
from benchmarks.experiment import Experiment
from benchmarks.record import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.nets import table4
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import stacked
from hyperinit_training.train_zoo.schedules import schedule
from hyperinit_training.train_zoo.stacked import Data, Network

NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {  # with the way in which the vector is laid over each
    "ResCNN": (table4.ResCNN, "layerwise"),
    "FourConv": (table4.FourConv, "flat"),
    "FourConvSkip": (table4.FourConvSkip, "flat"),
}


def main(argv: list[str]) -> None:
    """Measure and write `table4-mnist-svhn-SCALE.json`."""
    made = parser("table4", __doc__)
    made.add_argument("--population", type=int, help="networks of each row; default the scale's")
    made.add_argument("--epochs", type=int, help="of training; default the scale's for transfer")
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    source, target = (Experiment(n, scale, arguments.experiments, arguments.data) for n in ("mnist", "svhn"))
    count, last = arguments.population or scale.population, arguments.epochs or scale.tuned[1]
    train, test = (tuple(map(torch.from_numpy, target.images.normalised(part))) for part in ("train", "test"))
    if scale.name == "smoke":
        train = tuple(part[:300] for part in train)
    epochs = sorted({1, min(5, last), last})
    recipe = replace(target.recipe().zoo, epochs=last, snapshots=tuple(epochs))
    uniform = source.recipe().zoo.init == "uniform"
    key = {"count": count, "recipe": recipe.to_json(), "images": len(train[0])}
    rows: dict[str, dict[str, Any]] = {}
    for name, (make, fit) in NETWORKS.items():
        for start in ("default", *(["uniform"] if uniform else []), "generated"):
            models = [_model(make, fit, start, seed, source) for seed in range(count)]
            row = source.cached(f"table4 {name} {start}", key, lambda made=models: _run(made, train, test, recipe))
            rows[f"{name}, {start}"] = row
            print(name, start, {epoch: f"{found['mean']:.2%}" for epoch, found in row.items()}, flush=True)
    config = {"table": "table4", "key": "mnist-svhn", "epochs": [0, *epochs], "count": count, **source.config()}
    config["target"] = target.config()
    name = f"table4-mnist-svhn-{scale.name}"
    print(save(name, command("table4", arguments), config, {"rows": rows}, began, arguments.out).name)


def _model(make: Callable[[], nn.Module], fit: str, start: str, seed: int, source: Experiment) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make()
    generator = torch.Generator().manual_seed(seed)
    if start == "generated":
        hyperinit.init_(model, source.representation(), method="kde30", fit=fit, generator=generator)
    elif start == "uniform":
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.uniform_(parameter, generator=generator)
            else:
                nn.init.constant_(parameter, 0.01)
    return model


def _run(models: Sequence[nn.Module], train: Data, test: Data, recipe: ZooRecipe) -> dict[int, Any]:
    """Test accuracies before training and at the snapshots of the recipe; a network's seed is its place."""
    network = Network(lambda: models[0])
    starts = torch.stack([network.layout.flatten(model.state_dict()) for model in models])
    draws = (torch.Generator().manual_seed(seed) for seed in range(len(models)))
    plans = [schedule(recipe, len(train[0]), generator) for generator in draws]
    found, _ = stacked.train(network, starts, train, plans)
    reached = {0: starts} | {epoch: found[:, place] for place, epoch in enumerate(recipe.snapshots)}
    return {epoch: summary(stacked.accuracy(network, w, test).tolist()) for epoch, w in reached.items()}
