"""Train and evaluate any classifier in plain PyTorch, as a user's own script would."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.batches import loaders


def fit(  # noqa: PLR0913 - a model, its data and four numbers
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rate: float,
    batch: int,
    generator: torch.Generator,
) -> nn.Module:
    """Train `model` in place with Adam on cross entropy and return it. Arguments are those of `epochs_of`."""
    for _ in epochs_of(model, x, y, epochs=epochs, rate=rate, batch=batch, generator=generator):
        pass
    return model


def epochs_of(  # noqa: PLR0913 - as `fit`
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rate: float,
    batch: int,
    generator: torch.Generator,
    cosine: bool = False,
) -> Iterator[int]:
    """Train `model` in place with Adam, and yield the number of finished epochs after each one.

    Args:
        model: a classifier that returns logits (B, classes).
        x: normalised images, float32 (n, C, H, W).
        y: labels, int64 (n,).
        epochs: passes over the images.
        rate: learning rate.
        batch: images per step. The last batch of an epoch may be smaller and is used.
        generator: draws the order of the images.
        cosine: whether the rate falls to zero as a cosine over all steps. Otherwise it is constant.
    """
    steps = epochs * math.ceil(len(x) / batch)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    step = 0
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            if cosine:
                optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            step += 1
            loss = functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers on images (n, C, H, W) with labels (n,), 0 to 1, in evaluation mode.

    >>> accuracy(nn.Flatten(), torch.eye(3)[:, :, None], torch.tensor([0, 1, 1]))
    0.6666666666666666
    """
    return loaders.accuracy(model, zip(x.split(2000), y.split(2000), strict=True))
