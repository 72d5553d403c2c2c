"""Table 4: weights generated for MNIST's network start other architectures, which are trained on SVHN.

python -m benchmarks table4 --scale small --data DATA

The random start is drawn twice: as PyTorch does, and U(0, 1) like the paper's zoos. The paper does
not say which it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.experiment import Experiment
from benchmarks.results import save, summary
from benchmarks.scales import command, parse, parser
from hyperinit import table4
from hyperinit_training.finetune import accuracy, epochs_of
from hyperinit_training.zoo_recipe import ZooRecipe

NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {  # with the way in which the vector is laid over each
    "ResCNN": (table4.ResCNN, "layerwise"),
    "FourConv": (table4.FourConv, "flat"),
    "FourConvSkip": (table4.FourConvSkip, "flat"),
}
STARTS = ("default", "uniform", "generated")


def main(argv: list[str]) -> None:
    """Measure and write `table4-mnist-svhn-SCALE.json`."""
    made = parser("table4", __doc__)
    made.add_argument("--population", type=int, help="networks of each row; default the scale's")
    arguments = parse(made, argv)
    began = time.monotonic()
    scale = arguments.scale
    source, target = (Experiment(n, scale, arguments.experiments, arguments.data) for n in ("mnist", "svhn"))
    count = arguments.population or scale.population
    train, test = (tuple(map(torch.from_numpy, target.images.normalised(part))) for part in ("train", "test"))
    if scale.name == "smoke":
        train = tuple(part[:300] for part in train)
    recipe = target.recipe().zoo
    epochs = sorted({0, 1, min(5, scale.tuned[1]), scale.tuned[1]})
    rows: dict[str, dict[str, Any]] = {}
    for name, (make, fit) in NETWORKS.items():
        for start in STARTS:
            key = {"count": count, "epochs": epochs, "recipe": recipe.to_json(), "images": len(train[0])}

            def runs(make: Any = make, fit: str = fit, start: str = start) -> dict[int, Any]:
                found = [_run(_model(make, fit, start, seed, source), train, test, recipe, (epochs, seed))
                         for seed in range(count)]  # fmt: skip
                return {epoch: summary([run[epoch] for run in found]) for epoch in epochs}

            rows[f"{name}, {start}"] = row = source.cached(f"table4 {name} {start}", key, runs)
            print(name, start, {epoch: f"{found['mean']:.2%}" for epoch, found in row.items()}, flush=True)
    config = {"table": "table4", "key": "mnist-svhn", "epochs": epochs, "count": count, **source.config()}
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


def _run(
    model: nn.Module,
    train: tuple[Tensor, ...],
    test: tuple[Tensor, ...],
    recipe: ZooRecipe,
    plan: tuple[list[int], int],
) -> dict[int, float]:
    """Test accuracy at the epochs of the plan, whose second part is the seed of the data order."""
    epochs, seed = plan
    found = {0: accuracy(model, test[0], test[1])}
    order = torch.Generator().manual_seed(seed)
    for epoch in epochs_of(
        model, train[0], train[1], epochs=epochs[-1], rate=recipe.rate, batch=recipe.batch, generator=order
    ):
        if epoch in epochs:
            found[epoch] = accuracy(model, test[0], test[1])
    return found
