"""Compare ways to begin networks that are narrower than the source's, or have smaller kernels.

python -m benchmarks resize-narrow --data SVHN.npz

The way was chosen by this measurement, so it uses validation images and no test images. `calibrate=` gets training
images without their labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from benchmarks.populations import tensors
from benchmarks.record import parser, save, summary
from benchmarks.sources.transfer import BATCH, RATE, scaled_cnn
from hyperinit.batches.refit import Refit
from hyperinit.fitting import apply_, make_plan
from hyperinit.fitting.narrow import best_first
from hyperinit.layout import Layout
from hyperinit_training.images.dataset import load_images
from hyperinit_training.measure.finetune import accuracy, epochs_of

STRENGTHS = (1.0, 0.5)
Data = tuple[Tensor, Tensor]  # images (I, C, 28, 28) and labels (I,)


@dataclass(frozen=True)
class Way:
    """A way to begin a network from decoded weights.

    Args:
        best: whether the best neurons are kept, and not the first ones.
        strongest: whether smaller kernels take the strongest places of each layer's kernel, and not the middle.
        inputs: number of training images on which layers are corrected.
        least_squares: whether all weights are corrected. Otherwise each neuron gets another scale and bias.
    """

    best: bool = True
    strongest: bool = False
    inputs: int = 0
    least_squares: bool = True


WAYS = {
    "leading block": Way(best=False),
    "best neurons": Way(),
    "best neurons, strongest places": Way(strongest=True),
    "best neurons, scale and bias": Way(inputs=1024, least_squares=False),
    "leading block, least squares": Way(best=False, inputs=1024),
    "least squares on 64 images": Way(inputs=64),
    "least squares": Way(inputs=1024),
}


def main(argv: list[str]) -> None:
    """Measure and write `benchmarks/results/resize-narrow.json`."""
    made = parser("resize-narrow", __doc__)
    made.add_argument("--sources", nargs="+", default=["digits", "svhn"], help="each on images of its own task")
    made.add_argument("--data", type=Path, help="folder or .npz file of the images; digits need none")
    made.add_argument("--seeds", type=int, default=10, help="networks that are drawn")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    results: dict[str, Any] = {}
    for name in arguments.sources:
        images = load_images(name, None if name == "digits" else arguments.data)
        results[name] = _measured(name, arguments.seeds, *(tensors(images, part) for part in ("train", "val")))
    config = {"sources": arguments.sources, "seeds": arguments.seeds, "rate": RATE, "batch": BATCH, "on": "val"}
    command = f"python -m benchmarks resize-narrow --sources {' '.join(arguments.sources)} --data DATA"
    print(save("resize-narrow", command, config, results, began, arguments.out).name)


def _measured(source: str, seeds: int, train: Data, val: Data) -> dict[str, Any]:
    hr = hyperinit.load(source)
    channels = int(train[0].shape[1])
    drawn = [hr.sample(1, generator=torch.Generator().manual_seed(seed))[0] for seed in range(seeds)]
    found: dict[str, Any] = {
        "the source's network": {"epoch 0": summary([accuracy(hr.build_model(row), *val) for row in drawn])}
    }
    nets: dict[str, Callable[[], nn.Sequential]] = {
        "half as wide": lambda: scaled_cnn(channels, 0.5),
        "3x3 kernels": lambda: scaled_cnn(channels, 1, kernel=3),
        "half as wide, 3x3 kernels": lambda: scaled_cnn(channels, 0.5, kernel=3),
    }
    for name, make in nets.items():
        for label, way in {"default": None, **WAYS}.items():
            if way is not None and not _differs(way, name):
                continue
            for strength in STRENGTHS if way else (0.0,):
                runs = [_run(make, hr, way, seed, drawn[seed], strength, train, val) for seed in range(seeds)]
                rows = {f"epoch {epoch}": summary([run[epoch] for run in runs]) for epoch in (0, 1)}
                found.setdefault(name, {}).setdefault(label, {})[f"strength {strength}"] = rows
                print(source, name, label, strength, {k: f"{row['mean']:.1%}" for k, row in rows.items()}, flush=True)
    return found


def _differs(way: Way, net: str) -> bool:
    """Say whether a way is possible on a network and differs there from the others."""
    smaller, narrower = "3x3" in net, "half" in net
    return (smaller or not way.strongest) and (narrower or way.best) and (way.least_squares or not smaller)


def _run(  # noqa: PLR0913 - a network, how it begins, and the data
    make: Callable[[], nn.Sequential],
    hr: hyperinit.HyperRepresentation,
    way: Way | None,
    seed: int,
    weights: Tensor,
    strength: float,
    train: Data,
    val: Data,
) -> list[float]:
    """Return validation accuracy before training and after one epoch; the seed decides default draws and data order."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make()
    if way is not None:
        _begin(model, hr, way, weights, strength, torch.Generator().manual_seed(seed), train[0][: way.inputs])
    found = [accuracy(model, *val)]
    order = torch.Generator().manual_seed(seed)
    for _ in epochs_of(model, *train, epochs=1, rate=RATE, batch=BATCH, generator=order):
        found.append(accuracy(model, *val))
    return found


def _begin(  # noqa: PLR0913 - as `_run`
    model: nn.Sequential,
    hr: hyperinit.HyperRepresentation,
    way: Way,
    weights: Tensor,
    strength: float,
    generator: torch.Generator,
    images: Tensor,
) -> None:
    if way.strongest:
        weights = _strongest_in_the_middle(hr.layout, weights, 3)
    plan = make_plan(model, hr.layout)
    plan = plan if way.best else replace(plan, narrowed=())
    apply_(model, plan, weights, strength=strength, generator=generator)
    if way.inputs and way.least_squares:
        Refit(plan, hr.build_model(weights), strength).correct_(model, weights, images)
    elif way.inputs:
        state = best_first(hr.layout.state(weights), hr.layout, plan.narrowed)
        _scale_and_shift(model, hr.build_model(hr.layout.flatten(state)), images)


def _strongest_in_the_middle(layout: Layout, weights: Tensor, size: int) -> Tensor:
    """Shift the kernels of each layer together so that the window with the largest weights is in the middle."""
    state = layout.state(weights)
    for name, value in state.items():
        if value.ndim == 4 and value.shape[2] > size:
            strength = nn.functional.avg_pool2d(value.square().sum((0, 1))[None], size, 1)[0]
            row, column = divmod(int(strength.argmax()), strength.shape[1])
            middle = (value.shape[2] - size) // 2
            state[name] = value.roll((middle - row, middle - column), (2, 3))
    return layout.flatten(state)


@torch.no_grad()
def _scale_and_shift(model: nn.Sequential, source: nn.Module, images: Tensor) -> None:
    """Give each neuron the mean and standard deviation that it has in the source's network, layer by layer."""
    ours, theirs = images, images
    for part, of in zip(model, source.children(), strict=True):
        if isinstance(part, nn.Conv2d | nn.Linear):
            got = part(ours).transpose(0, 1).flatten(1)  # (neurons, images x pixels)
            wanted = of(theirs).transpose(0, 1).flatten(1)[: len(got)]
            scale = wanted.std(1) / got.std(1).clamp_min(1e-6)
            part.weight.mul_(scale.reshape(-1, *(1 for _ in part.weight.shape[1:])))
            if part.bias is not None:
                part.bias.copy_((part.bias - got.mean(1)) * scale + wanted.mean(1))
        ours, theirs = part(ours), of(theirs)
