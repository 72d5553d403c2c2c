"""The rule by which tensors are resized, against the plain leading block, on networks of other widths.

python -m benchmarks resize-rules --source mnist --images svhn --data SVHN.npz

Chosen on validation images: test images are not opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.record import parser, save, summary
from benchmarks.sources.transfer import BATCH, RATE, scaled_cnn
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

EPOCHS, STRENGTH = 10, 0.5
Data = tuple[Tensor, ...]


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/resize-rules.json`."""
    made = parser("resize-rules", __doc__)
    made.add_argument("--source", default="mnist")
    made.add_argument("--images", default="svhn")
    made.add_argument("--data", type=Path, help="folder or .npz file of the images; digits need none")
    made.add_argument("--seeds", type=int, default=4)
    arguments = made.parse_args(argv)
    began = time.monotonic()
    images = load_images(arguments.images, arguments.data)
    train, val = (tuple(map(torch.from_numpy, images.normalised(part))) for part in ("train", "val"))
    hr = hyperinit.load(arguments.source)
    rules: dict[str, Callable[[nn.Module, int], object]] = {
        "default": lambda model, seed: None,
        "leading block": lambda model, seed: leading_block(model, hr.layout.unflatten(_draw(hr, seed))),
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
    """Mix the overlap of every tensor and leave the rest at its default draw: the rule that suggests itself."""
    for name, parameter in model.named_parameters():
        block = tuple(slice(min(a, b)) for a, b in zip(parameter.shape, decoded[name].shape, strict=True))
        parameter[block] = STRENGTH * decoded[name][block] + (1 - STRENGTH) * parameter[block]


def _draw(hr: hyperinit.HyperRepresentation, seed: int) -> Tensor:
    return hr.sample(1, generator=torch.Generator().manual_seed(seed))[0]


def _run(
    width: float, start: Callable[[nn.Module, int], object], seed: int, train: Data, val: Data
) -> dict[int, float]:
    """Validation accuracy by epoch; one seed means the same default draw, decoded network and data order."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = scaled_cnn(int(train[0].shape[1]), width)
    start(model, seed)
    order = torch.Generator().manual_seed(seed)
    run = epochs_of(model, train[0], train[1], epochs=EPOCHS, rate=RATE, batch=BATCH, generator=order)
    return {epoch: accuracy(model, val[0], val[1]) for epoch in run}
