"""Start a network that is several times as wide as the zoo's, and train it: `init_` against what users have today.

python -m benchmarks wider --source svhn --images svhn --data SVHN.npz --times 4
python -m benchmarks wider --source mnist --images svhn --data SVHN.npz --times 4 --strength 0.5

No choice is made on the test images. Every start and every seed is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.populations import tensors
from benchmarks.record import parser, save, summary
from benchmarks.sources.transfer import scaled_cnn
from hyperinit.fitting import apply_, make_plan
from hyperinit.samplers.families import spread
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

RATE, BATCH = 1e-3, 64
REPORTED = (0, 1, 2, 5, 10)  # epochs
Start = Callable[[nn.Module, torch.Generator], object]


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/wider-SOURCE-IMAGES.json`."""
    made = parser("wider", __doc__)
    made.add_argument("--source", default="svhn", help="source of the weights")
    made.add_argument("--images", default="svhn", help="data set to train on")
    made.add_argument("--data", type=Path, help="folder or .npz file of the images; digits need none")
    made.add_argument("--times", type=int, default=4, help="width in units of the zoo's network")
    made.add_argument("--strength", type=float, default=1.0, help="strength of init_")
    made.add_argument("--seeds", type=int, default=3, help="networks of each start")
    made.add_argument("--limit", type=int, default=8000, help="training images, the first ones; 0 for all")
    made.add_argument("--epochs", type=int, default=max(REPORTED), help="0 measures the starts alone")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    images = load_images(arguments.images, arguments.data)
    train, test = (tensors(images, part) for part in ("train", "test"))
    limit = arguments.limit or len(train[0])
    train = (train[0][:limit], train[1][:limit])
    results: dict[str, Any] = {}
    for name, start in starts(hyperinit.load(arguments.source), arguments.times, arguments.strength).items():
        runs = [_run(start, arguments.times, arguments.epochs, seed, train, test) for seed in range(arguments.seeds)]
        results[name] = {f"epoch {epoch}": summary([run[epoch] for run in runs]) for epoch in runs[0]}
        print(name, {key: f"{row['mean']:.2%}" for key, row in results[name].items()}, flush=True)
    config = {key: vars(arguments)[key] for key in ("source", "images", "times", "strength", "seeds", "epochs")}
    config |= {"train": len(train[0]), "test": len(test[0]), "rate": RATE, "schedule": "cosine", "batch": BATCH}
    options = " ".join(f"--{key} {config[key]}" for key in ("source", "images", "times", "strength"))
    name = f"wider-{arguments.source}-{arguments.images}-{arguments.times}"
    print(save(name, f"python -m benchmarks wider {options} --data DATA", config, results, began, arguments.out).name)


def starts(hr: hyperinit.HyperRepresentation, times: int, strength: float) -> dict[str, Start]:
    """Return the ways to start a network that is `times` as wide, by name.

    The networks of the zoo are written by the same rule as generated ones.
    """

    def write(model: nn.Module, weights: Tensor, generator: torch.Generator) -> nn.Module:
        plan = make_plan(model, hr.layout, members=len(weights))
        return apply_(model, plan, weights if len(weights) > 1 else weights[0], strength=strength, generator=generator)

    def generated(members: int) -> Start:
        return lambda model, generator: hyperinit.init_(
            model, hr, members=members, strength=strength, generator=generator
        )

    def repeated(model: nn.Module, generator: torch.Generator) -> object:
        return write(model, hr.sample(1, generator=generator).expand(times, -1), generator)

    def zoo(members: int) -> Start:
        def start(model: nn.Module, generator: torch.Generator) -> object:
            rows = spread(hr.anchors.families, members, generator)
            return write(model, hr.anchors.weights[rows], generator)

        return start

    def mean(model: nn.Module, generator: torch.Generator) -> object:
        return write(model, hr.sample(1, method="average", generator=generator), generator)

    return {
        "PyTorch's default": lambda model, generator: model,
        "one checkpoint of the zoo": zoo(1),
        "mean of neighbouring checkpoints": mean,
        "one generated network": generated(1),
        f"one generated network {times} times": repeated,
        f"{times} checkpoints of the zoo": zoo(times),
        f"{times} generated networks": generated(times),
    }


def _run(  # noqa: PLR0913
    start: Start, times: int, epochs: int, seed: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[int, float]:
    """Return test accuracy by epoch. The seed decides initialisation, drawn networks and data order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = scaled_cnn(int(train[0].shape[1]), times)
    start(model, generator)
    found = {0: accuracy(model, *test)}
    order = torch.Generator().manual_seed(seed)
    for epoch in epochs_of(model, *train, epochs=epochs, rate=RATE, batch=BATCH, generator=order, cosine=True):
        if epoch in REPORTED:
            found[epoch] = accuracy(model, *test)
    return found
