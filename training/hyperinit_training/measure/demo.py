"""The demo: compare PyTorch's default initialisation with `init_` on the embedded digits, in under a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import hyperinit
from hyperinit_training.images.dataset import Images, load_images
from hyperinit_training.measure.finetune import accuracy, fit

SOURCE = "digits"


def run(*, seed: int = 0) -> tuple[str, dict[str, Any]]:
    """Compare default with sampled starting weights on held-out digits, and return a report and its data.

    Both networks are built with the same seed, so that they differ in nothing but `init_`.
    """
    began = time.monotonic()
    images = load_images("digits")
    generator = torch.Generator().manual_seed(seed)
    default = _start(lambda: _network(seed), images)
    generated = _start(lambda: hyperinit.init_(_network(seed), source=SOURCE, generator=generator), images)
    ensemble = hyperinit.ensemble(n=15, source=SOURCE, generator=generator)
    joint = accuracy(ensemble, *_tensors(images, "test"))
    lines = [
        f"accuracy on {len(images.y_test)} held-out digits          right away   after 1 epoch",
        f"PyTorch's default initialisation       {default[0]:10.1%}   {default[1]:13.1%}",
        f'hyperinit.init_(model, "{SOURCE}")        {generated[0]:10.1%}   {generated[1]:13.1%}',
        f'hyperinit.ensemble(15, "{SOURCE}")        {joint:10.1%}               -',
        "",
        f'print(hyperinit.plan(model, "{SOURCE}"))',
        str(hyperinit.plan(_network(seed), SOURCE)),
        "",
        f"{time.monotonic() - began:.1f} seconds",
    ]
    data = {"default": default, "init_": generated, "ensemble": joint, "images": len(images.y_test)}
    return "\n".join(lines), data


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return hyperinit.nets.cnn()


def _tensors(images: Images, split: str) -> tuple[Tensor, Tensor]:
    x, y = images.normalised(split)
    return torch.from_numpy(x), torch.from_numpy(y)


def _start(make: Callable[[], nn.Module], images: Images) -> tuple[float, float]:
    """Return the accuracy of a network before training and after one epoch, each 0 to 1."""
    model = make()
    before = accuracy(model, *_tensors(images, "test"))
    fit(model, *_tensors(images, "train"), epochs=1, rate=3e-3, batch=64, generator=torch.Generator().manual_seed(0))
    return before, accuracy(model, *_tensors(images, "test"))
