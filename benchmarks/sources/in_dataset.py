"""Measure a source on its own task: 50 samples of every method, one epoch of training, and ensembles of 15.

python -m benchmarks in-dataset --source mnist --data DIR
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.populations import tensors
from benchmarks.record import Summary, parser, save, summary
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, fit
from hyperinit_training.measure.yardstick import Yardstick

RATES, BATCH = (1e-3, 3e-3), 64  # of one epoch of Adam: its default rate, and one that suits short training


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/in-dataset-SOURCE.json`."""
    made = parser("in-dataset", __doc__)
    made.add_argument("--source", default="mnist", help="source to measure")
    made.add_argument("--data", type=Path, help="folder of the source's images; digits need none")
    made.add_argument("--methods", nargs="+", help="sampling methods; by default all of the source")
    made.add_argument("--draws", type=int, default=50, help="networks sampled by each method")
    made.add_argument("--seeds", type=int, default=5, help="networks trained for one epoch from each initialisation")
    made.add_argument("--ensembles", type=int, default=15, help="ensembles of 15 networks")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    hr = hyperinit.load(arguments.source)
    images = load_images(hr.card.zoo["images"]["name"], arguments.data)
    train, test = (tensors(images, part) for part in ("train", "test"))
    yardstick = Yardstick.on(hr.anchors.weights, images.normalised("test"), hr.card.zoo["recipe"]["activation"])
    results: dict[str, Any] = {
        "zoo": summary((1 - yardstick.train_wrong.float().mean(1)).tolist()),
        "recommended": hr.card.recommended,
        "methods": {name: _method(hr, name, arguments.draws, yardstick) for name in arguments.methods or hr.methods()},
        **{_epoch(rate): _one_epoch(arguments.source, rate, arguments.seeds, train, test) for rate in RATES},
        "ensemble of 15": _ensembles(arguments.source, arguments.ensembles, test),
    }
    config = {
        "source": arguments.source,
        "draws": arguments.draws,
        "seeds": arguments.seeds,
        "rates": RATES,
        "batch": BATCH,
    }
    command = f"python -m benchmarks in-dataset --source {arguments.source} --data DIR"
    print(_report(results))
    print(save(f"in-dataset-{arguments.source}", command, config, results, began, arguments.out).name)


def _method(hr: hyperinit.HyperRepresentation, name: str, draws: int, yardstick: Yardstick) -> dict[str, Any]:
    weights = hr.sample(draws, method=name, generator=torch.Generator().manual_seed(1))
    found = yardstick.measure(weights)
    return {key: found[key] for key in ("accuracy", "std", "n", "images", "distance", "overlap", "diversity")}


def _epoch(rate: float) -> str:
    """Name the results of one epoch at a learning rate."""
    return f"one epoch at {rate:g}"


def _one_epoch(
    source: str, rate: float, seeds: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, Summary]:
    """Return test accuracies after one epoch from PyTorch's default and from `init_`, with the same data orders."""
    starts: dict[str, list[float]] = {"default": [], "init_": []}
    for seed in range(seeds):
        for start, values in starts.items():
            model = _network(seed, int(train[0].shape[1]))
            if start == "init_":
                hyperinit.init_(model, source, generator=torch.Generator().manual_seed(seed))
            order = torch.Generator().manual_seed(seed)
            fit(model, train[0], train[1], epochs=1, rate=rate, batch=BATCH, generator=order)
            values.append(accuracy(model, test[0], test[1]))
    return {start: summary(values) for start, values in starts.items()}


def _ensembles(source: str, count: int, test: tuple[Tensor, Tensor]) -> dict[str, Summary]:
    """Return test accuracies of `count` ensembles of 15, and of their mean and best member."""
    joint, members, best = [], [], []
    for seed in range(count):
        ensemble = hyperinit.ensemble(n=15, source=source, generator=torch.Generator().manual_seed(seed))
        single = [accuracy(member, test[0], test[1]) for member in ensemble.members]
        joint.append(accuracy(ensemble, test[0], test[1]))
        members.append(sum(single) / len(single))
        best.append(max(single))
    return {"ensemble": summary(joint), "members' mean": summary(members), "best member": summary(best)}


def _network(seed: int, channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return hyperinit.nets.cnn(channels)


def _report(results: dict[str, Any]) -> str:
    lines = [f"{'zoo':20} {results['zoo']['mean']:.2%}"]
    lines += [
        f"{name:20} {row['accuracy']:.2%} +- {row['std']:.2%}  overlap {row['overlap']:.2f}"
        for name, row in results["methods"].items()
    ]
    for part in (*map(_epoch, RATES), "ensemble of 15"):
        rows = {key: row for key, row in results[part].items() if isinstance(row, dict)}
        lines += [f"{part}, {key}: {row['mean']:.2%} +- {row['std']:.2%}" for key, row in rows.items()]
    return "\n".join([*lines, f"recommended: {results['recommended']}"])
