"""Table 4: initialise other architectures with weights generated for MNIST's network, and train them on SVHN.

python -m benchmarks table4 --scale small --data DATA

The paper does not say which random initialisation it compares with. Here it is PyTorch's default, and also U(0, 1) if
the source's zoo was initialised so, as the paper's is. The networks of a row are trained side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

import hyperinit
from benchmarks.experiment import Experiment
from benchmarks.populations import Progress, tensors
from benchmarks.record import Summary, save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.nets import table4
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import stacked
from hyperinit_training.train_zoo.schedules import schedule
from hyperinit_training.train_zoo.stacked import Data, Network

NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {  # constructor, and `fit` of `init_`
    "ResCNN": (table4.ResCNN, "layerwise"),
    "FourConv": (table4.FourConv, "flat"),
    "FourConvSkip": (table4.FourConvSkip, "flat"),
}


def main(argv: list[str]) -> None:
    """Measure and write `table4-mnist-svhn-SCALE.json`."""
    made = parser("table4", __doc__)
    made.add_argument("--population", type=int, help="networks in each row; by default the scale's")
    made.add_argument("--epochs", type=int, help="epochs of training; by default the scale's for transfer")
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    source, target = (Experiment(n, scale, arguments.experiments, arguments.data) for n in ("mnist", "svhn"))
    count, last = arguments.population or scale.population, arguments.epochs or scale.tuned[1]
    train, test = (tensors(target.images, part) for part in ("train", "test"))
    if scale.name == "smoke":
        train = train[0][:300], train[1][:300]
    epochs = sorted({1, min(5, last), last})
    recipe = replace(target.recipe().zoo, epochs=last, snapshots=tuple(epochs))
    uniform = source.recipe().zoo.init == "uniform"
    key = {"count": count, "recipe": recipe.to_json(), "images": len(train[0])}
    rows: dict[str, Progress] = {}
    for name, (make, fit) in NETWORKS.items():
        for start in ("default", *(["uniform"] if uniform else []), "generated"):
            models = [_model(make, fit, start, seed, source) for seed in range(count)]
            row = source.cached(f"table4 {name} {start}", key, partial(_run, models, train, test, recipe))
            rows[f"{name}, {start}"] = row
            print(name, start, {epoch: f"{found['mean']:.2%}" for epoch, found in row.items()}, flush=True)
    config = {"table": "table4", "key": "mnist-svhn", "epochs": [0, *epochs], "count": count, **source.config()}
    config["target"] = target.config()
    name = f"table4-mnist-svhn-{scale.name}"
    print(save(name, command("table4", arguments), config, {"rows": rows}, began, arguments.out).name)


def _model(make: Callable[[], nn.Module], fit: str, start: str, seed: int, source: Experiment) -> nn.Module:
    """Return a network with its initial weights: "default", "uniform" or "generated"."""
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


def _run(models: Sequence[nn.Module], train: Data, test: Data, recipe: ZooRecipe) -> dict[int, Summary]:
    """Return test accuracies before training and at the recipe's snapshots; network i trains in the order of seed i."""
    network = Network(lambda: models[0])
    starts = torch.stack([network.layout.flatten(model.state_dict()) for model in models])
    draws = (torch.Generator().manual_seed(seed) for seed in range(len(models)))
    plans = [schedule(recipe, len(train[0]), generator) for generator in draws]
    found, _ = stacked.train(network, starts, train, plans)
    reached = {0: starts} | {epoch: found[:, place] for place, epoch in enumerate(recipe.snapshots)}
    return {epoch: summary(stacked.accuracy(network, w, test).tolist()) for epoch, w in reached.items()}
