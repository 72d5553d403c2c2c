"""Selection: test accuracy of init_ with one draw, and with the best of several on a few training images.

python -m benchmarks select --source mnist --data DIR
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import hyperinit
from benchmarks.record import parser, save, summary
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy

OVERSAMPLE = (1, 5, 20)


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/select-SOURCE-METHOD.json`."""
    made = parser("select", __doc__)
    made.add_argument("--source", default="mnist")
    made.add_argument("--data", type=Path, help="folder or .npz file of the source's images; digits need none")
    made.add_argument("--method", help="default the source's recommended one, whose draws differ least")
    made.add_argument("--images", type=int, default=300, help="training images to select on, others for each seed")
    made.add_argument("--seeds", type=int, default=20)
    arguments = made.parse_args(argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    images = load_images(hr.card.zoo["images"]["name"], arguments.data)
    train, test = (tuple(map(torch.from_numpy, images.normalised(part))) for part in ("train", "test"))
    method = arguments.method or hr.card.recommended
    results: dict[str, Any] = {}
    for oversample in OVERSAMPLE:
        values = []
        for seed in range(arguments.seeds):
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(train[0]), generator=generator)[: arguments.images]
            model = hyperinit.nets.cnn(int(train[0].shape[1]))
            batch = (train[0][rows], train[1][rows])  # test images choose nothing
            hyperinit.init_(model, hr, method=method, select=[batch], oversample=oversample, generator=generator)
            values.append(accuracy(model, test[0], test[1]))
        results[f"oversample {oversample}"] = row = summary(values)
        print(f"oversample {oversample:2}: {row['mean']:.2%} +- {row['std']:.2%}, worst {min(values):.2%}", flush=True)
    config = {"source": arguments.source, "method": method, "oversample": OVERSAMPLE}
    config |= {"selected on": arguments.images, "test images": len(test[0]), "seeds": arguments.seeds}
    command = f"python -m benchmarks select --source {arguments.source} --method {method} --data DATA"
    print(save(f"select-{arguments.source}-{method}", command, config, results, began, arguments.out).name)
