"""Train on another data set from `init_` and from PyTorch's default, on the zoo's network and on one twice as wide.

python -m benchmarks transfer --source mnist --images svhn --data SVHN.npz
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
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

EPOCHS, RATE, BATCH = 10, 3e-3, 64
REPORTED = (0, 1, 2, 5, 10)  # epochs
Data = tuple[Tensor, Tensor]  # images (I, C, 28, 28) and labels (I,)


def scaled_cnn(channels: int, width: float, kernel: int = 5) -> nn.Sequential:
    """Return the zoo's network with `width` times as many neurons in every hidden layer, and kernels of another size.

    >>> scaled_cnn(1, 0.5, kernel=3)(torch.zeros(1, 1, 28, 28)).shape
    torch.Size([1, 10])
    """
    side = ((29 - kernel) // 2 - kernel + 1) // 2 - 1  # of the last feature map, in pixels
    a, b, c, d = (round(width * neurons) for neurons in (8, 6, 4, 20))
    return nn.Sequential(
        nn.Conv2d(channels, a, kernel), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(a, b, kernel), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(b, c, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(side * side * c, d), nn.Tanh(),
        nn.Linear(d, 10),
    )  # fmt: skip


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/transfer-SOURCE-IMAGES.json`."""
    made = parser("transfer", __doc__)
    made.add_argument("--source", default="mnist", help="source of the weights")
    made.add_argument("--images", default="svhn", help="data set to train on")
    made.add_argument("--data", type=Path, help="folder or .npz file of the images; digits need none")
    made.add_argument("--seeds", type=int, default=3, help="networks of each initialisation")
    made.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0], help="values of strength= to measure")
    made.add_argument(
        "--on", choices=("test", "val"), default="test", help="measured on: val for choices, test for reported results"
    )
    arguments = made.parse_args(argv)
    began = time.monotonic()
    images = load_images(arguments.images, arguments.data)
    train, held = (tensors(images, part) for part in ("train", arguments.on))
    if arguments.on == "test":  # nothing is chosen, so validation images are used for training too
        more = tensors(images, "val")
        train = (torch.cat([train[0], more[0]]), torch.cat([train[1], more[1]]))
    channels = int(train[0].shape[1])
    nets: dict[str, Callable[[], nn.Module]] = {
        "zoo's network": lambda: hyperinit.nets.cnn(channels),
        "twice as wide": lambda: scaled_cnn(channels, 2),
    }
    results: dict[str, Any] = {}
    for name, make in nets.items():
        for strength in (0.0, *arguments.strengths):
            runs = [_run(make, arguments.source, strength, seed, train, held) for seed in range(arguments.seeds)]
            start = f"strength {strength}" if strength else "default"
            results.setdefault(name, {})[start] = {
                f"epoch {epoch}": summary([run[epoch] for run in runs]) for epoch in REPORTED
            }
            print(name, start, {k: f"{v['mean']:.2%}" for k, v in results[name][start].items()}, flush=True)
    config = {"source": arguments.source, "images": arguments.images, "train": len(train[0]), "on": arguments.on}
    config |= {"held out": len(held[0]), "epochs": EPOCHS, "rate": RATE, "batch": BATCH, "seeds": arguments.seeds}
    if arguments.on == "test":
        command = f"python -m benchmarks transfer --source {arguments.source} --images {arguments.images} --data DATA"
        print(
            save(f"transfer-{arguments.source}-{arguments.images}", command, config, results, began, arguments.out).name
        )


def _run(  # noqa: PLR0913
    make: Callable[[], nn.Module], source: str, strength: float, seed: int, train: Data, held: Data
) -> dict[int, float]:  # fmt: skip
    """Return held-out accuracy by epoch; the seed decides initialisation and data order at every strength."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make()
    if strength:
        hyperinit.init_(model, source, strength=strength, generator=torch.Generator().manual_seed(seed))
    found = {0: accuracy(model, held[0], held[1])}
    order = torch.Generator().manual_seed(seed)
    for epoch in epochs_of(model, train[0], train[1], epochs=EPOCHS, rate=RATE, batch=BATCH, generator=order):
        if epoch in REPORTED:
            found[epoch] = accuracy(model, held[0], held[1])
    return found
