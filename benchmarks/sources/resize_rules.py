"""Compare the resizing of `init_` with copying the leading block of every tensor, on networks of other widths.

python -m benchmarks resize-rules --source mnist --images svhn --data SVHN.npz

The rule was chosen by this measurement, so it uses validation images and no test images.
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
from benchmarks.sources.transfer import BATCH, RATE, scaled_cnn
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

EPOCHS, STRENGTH = 10, 0.5
Data = tuple[Tensor, Tensor]  # images (I, C, 28, 28) and labels (I,)


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/resize-rules.json`."""
    made = parser("resize-rules", __doc__)
    made.add_argument("--source", default="mnist", help="source of the weights")
    made.add_argument("--images", default="svhn", help="data set to train on")
    made.add_argument("--data", type=Path, help="folder or .npz file of the images; digits need none")
    made.add_argument("--seeds", type=int, default=4, help="networks trained by each rule")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    images = load_images(arguments.images, arguments.data)
    train, val = (tensors(images, part) for part in ("train", "val"))
    hr = hyperinit.load(arguments.source)
    rules: dict[str, Callable[[nn.Module, int], object]] = {
        "default": lambda model, seed: None,
        "leading block": lambda model, seed: leading_block(model, hr.layout.state(_draw(hr, seed))),
        "taken": lambda model, seed: hyperinit.init_(
            model, arguments.source, strength=STRENGTH, generator=torch.Generator().manual_seed(seed)
        ),
    }
    results: dict[str, Any] = {}
    for name, width in (("twice as wide", 2.0), ("half as wide", 0.5)):
        for rule, start in rules.items():
            runs = [_run(width, start, seed, train, val) for seed in range(arguments.seeds)]
            rows = {f"epoch {epoch}": summary([run[epoch] for run in runs]) for epoch in (1, 2, EPOCHS)}
            results.setdefault(name, {})[rule] = rows
            print(name, rule, {key: f"{row['mean']:.2%}" for key, row in rows.items()}, flush=True)
    config = {"source": arguments.source, "images": arguments.images, "strength": STRENGTH, "seeds": arguments.seeds}
    config |= {"train": len(train[0]), "held out": len(val[0]), "epochs": EPOCHS, "rate": RATE, "batch": BATCH}
    command = f"python -m benchmarks resize-rules --source {arguments.source} --images {arguments.images} --data DATA"
    print(save("resize-rules", command, config, results, began, arguments.out).name)


@torch.no_grad()
def leading_block(model: nn.Module, decoded: dict[str, Tensor]) -> None:
    """Mix decoded weights into the leading block of every parameter, in place; the rest keeps its default values."""
    for name, parameter in model.named_parameters():
        block = tuple(slice(min(a, b)) for a, b in zip(parameter.shape, decoded[name].shape, strict=True))
        parameter[block] = STRENGTH * decoded[name][block] + (1 - STRENGTH) * parameter[block]


def _draw(hr: hyperinit.HyperRepresentation, seed: int) -> Tensor:
    return hr.sample(1, generator=torch.Generator().manual_seed(seed))[0]


def _run(
    width: float, start: Callable[[nn.Module, int], object], seed: int, train: Data, val: Data
) -> dict[int, float]:
    """Return validation accuracy by epoch; the seed decides initialisation, decoded network and data order."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = scaled_cnn(int(train[0].shape[1]), width)
    start(model, seed)
    order = torch.Generator().manual_seed(seed)
    run = epochs_of(model, train[0], train[1], epochs=EPOCHS, rate=RATE, batch=BATCH, generator=order)
    return {epoch: accuracy(model, val[0], val[1]) for epoch in run}
