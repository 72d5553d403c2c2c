"""Test accuracy of `init_` with one sample, and with the best of several samples on a few training images.

python -m benchmarks select --source mnist --data DIR
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import hyperinit
from benchmarks.populations import tensors
from benchmarks.record import parser, save, summary
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy

OVERSAMPLE = (1, 5, 20)  # samples of which the best is kept


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/select-SOURCE-METHOD.json`."""
    made = parser("select", __doc__)
    made.add_argument("--source", default="mnist", help="source to measure")
    made.add_argument("--data", type=Path, help="folder or .npz file of the source's images; digits need none")
    made.add_argument("--method", help="sampling method; by default the recommended one, whose samples differ least")
    made.add_argument("--images", type=int, default=300, help="training images to select on, drawn anew for each seed")
    made.add_argument("--seeds", type=int, default=20, help="networks for each number of samples")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    images = load_images(hr.card.zoo["images"]["name"], arguments.data)
    train, test = (tensors(images, part) for part in ("train", "test"))
    method = arguments.method or hr.card.recommended
    results: dict[str, Any] = {}
    for oversample in OVERSAMPLE:
        values = []
        for seed in range(arguments.seeds):
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(train[0]), generator=generator)[: arguments.images]
            model = hyperinit.nets.cnn(int(train[0].shape[1]))
            batch = (train[0][rows], train[1][rows])  # selection never sees test images
            hyperinit.init_(model, hr, method=method, select=[batch], oversample=oversample, generator=generator)
            values.append(accuracy(model, test[0], test[1]))
        results[f"oversample {oversample}"] = row = summary(values)
        print(f"oversample {oversample:2}: {row['mean']:.2%} +- {row['std']:.2%}, worst {min(values):.2%}", flush=True)
    config = {"source": arguments.source, "method": method, "oversample": OVERSAMPLE}
    config |= {"selected on": arguments.images, "test images": len(test[0]), "seeds": arguments.seeds}
    command = f"python -m benchmarks select --source {arguments.source} --method {method} --data DATA"
    print(save(f"select-{arguments.source}-{method}", command, config, results, began, arguments.out).name)
