"""Compare `init_` with other initialisations on other architectures, with the source's own images.

python -m benchmarks initializer-other --source mnist --data DATA

The networks are the zoo's with twice the width and BatchNorm, the paper's residual one (grey images only), and one of
linear layers only. No checkpoint of the zoo fits them. Checkpoints, checkpoints plus noise and averages are therefore
resized by the same rule as generated weights (`init_` with the method `noise` or `average`). BatchNorms are calibrated
on training images; one row shows `init_` without that. Training is plain PyTorch: Adam at a constant rate on a limited
number of images, which takes minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.experiment import data_of
from benchmarks.populations import Progress, tensors
from benchmarks.record import BARE, save, summary
from benchmarks.scales import command, parse, parser
from hyperinit.nets import table4
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

RATE, BATCH, HIDDEN = 1e-3, 64, 64
SHOWN = (0, 1, 2, 5, 10)  # epochs
IMAGES, TESTED, SEEDS = 3000, 2000, 5  # training images, test images, networks of each initialisation
CALIBRATED = 16  # batches of training images for the calibration of BatchNorms
Start = Callable[[nn.Module, torch.Generator], object]  # changes a network in place
Batch = tuple[Tensor, Tensor]  # images (I, C, H, W) and labels (I,)


def main(argv: list[str]) -> None:
    """Measure and write `initializer-other-SOURCE.json`."""
    made = parser("initializer-other", __doc__)
    made.add_argument("--source", default="digits", help="source to measure")
    made.add_argument("--seeds", type=int, help=f"networks of each row; default {SEEDS}, and 1 at smoke scale")
    arguments = parse(made, argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    name, smoke = hr.card.zoo["images"]["name"], arguments.scale.name == "smoke"
    images = load_images(name, data_of(name, arguments.data))
    seeds = arguments.seeds or (1 if smoke else SEEDS)
    epochs = [epoch for epoch in SHOWN if epoch <= (1 if smoke else SHOWN[-1])]
    train, test = (
        (x[:most], y[:most])
        for (x, y), most in (
            (tensors(images, "train"), 300 if smoke else IMAGES), (tensors(images, "test"), TESTED)
        )
    )  # fmt: skip
    rows: dict[str, dict[str, Progress]] = {}
    for network, make in networks(train[0].shape[1:]).items():
        rows[network] = {}
        for row, start in starts(hr, train[0].split(BATCH)[:CALIBRATED]).items():
            if row == BARE and not any(isinstance(part, nn.BatchNorm2d) for part in make().modules()):
                continue
            found = [_run(make, start, (epochs, seed), train, test) for seed in range(seeds)]
            rows[network][row] = {str(epoch): summary([run[epoch] for run in found]) for epoch in epochs}
            words = {epoch: f"{found['mean']:.2%}" for epoch, found in rows[network][row].items()}
            print(arguments.source, network, row, words, flush=True)
    source = Path(arguments.source).stem
    config = {"table": "initializer-other", "key": source, "scale": arguments.scale.name, "seeds": seeds}
    config |= {"epochs": epochs, "rate": RATE, "batch": BATCH, "train": len(train[0]), "test": len(test[0])}
    config["decoded share"] = {
        network: round(hyperinit.plan(make(), hr).decoded_share, 4)
        for network, make in networks(train[0].shape[1:]).items()
    }
    name = f"initializer-other-{source}"
    print(save(name, command("initializer-other", arguments), config, {"rows": rows}, began, arguments.out).name)


def networks(shape: torch.Size) -> dict[str, Callable[[], nn.Module]]:
    """Return constructors of the networks, by name, for images of `shape` (channels, height, width)."""
    channels, pixels = shape[0], prod(shape)
    found: dict[str, Callable[[], nn.Module]] = {
        "twice as wide, BatchNorm": lambda: wide(channels),
        "linear layers only": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)
        ),
    }
    return {**found, "residual (Table 4's ResCNN)": table4.ResCNN} if channels == 1 else found


def wide(channels: int) -> nn.Sequential:
    """Return the zoo's network with twice as many neurons in every hidden layer and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, 5), nn.BatchNorm2d(12), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(),
        nn.Linear(72, 40), nn.Tanh(), nn.Linear(40, 10),
    )  # fmt: skip


def starts(hr: hyperinit.HyperRepresentation, batches: Sequence[Tensor]) -> dict[str, Start]:
    """Return the initialisations by name; each changes a network in place that PyTorch has initialised."""
    # The method `noise` without noise gives the checkpoints themselves.
    bare = hr.with_header(replace(hr.header, samplers=replace(hr.header.samplers, noise=0.0)))

    def drawn(source: hyperinit.HyperRepresentation, **options: Any) -> Start:
        options = {"calibrate": batches, **options}
        return lambda model, generator: hyperinit.init_(model, source, min_share=0.0, generator=generator, **options)

    return {
        "PyTorch's default": lambda model, generator: None,
        "Kaiming uniform": lambda model, generator: _each(model, nn.init.kaiming_uniform_, generator),
        "orthogonal": lambda model, generator: _each(model, nn.init.orthogonal_, generator),
        "init_": drawn(hr),
        "init_ at strength 0.5": drawn(hr, strength=0.5),
        BARE: drawn(hr, calibrate=None),
        "a checkpoint of the zoo": drawn(bare, method="noise"),
        "a checkpoint plus noise": drawn(hr, method="noise"),
        "average of neighbouring checkpoints": drawn(hr, method="average"),
    }


def _each(model: nn.Module, init: Callable[..., Tensor], generator: torch.Generator) -> None:
    for parameter in model.parameters():
        if parameter.ndim > 1:
            init(parameter, generator=generator)


def _run(
    make: Callable[[], nn.Module],
    start: Start,
    plan: tuple[list[int], int],
    train: Batch,
    test: Batch,
) -> dict[int, float]:
    """Return test accuracy by epoch; `plan` holds the epochs, and the seed of initialisation and data order."""
    epochs, seed = plan
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make()
    start(model, torch.Generator().manual_seed(seed))
    found, order = {0: accuracy(model, *test)}, torch.Generator().manual_seed(seed)
    for epoch in epochs_of(model, *train, epochs=epochs[-1], rate=RATE, batch=BATCH, generator=order):
        if epoch in epochs:
            found[epoch] = accuracy(model, *test)
    return found
