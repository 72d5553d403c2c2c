"""Guess the shape of a network's input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDES = (28, 32, 64, 96, 224)  # sizes of images and signals to try, in this order


def guess_input(module: nn.Module) -> Tensor | None:
    """Return zeros of a shape that the network accepts, or None if no usual shape works.

    The first linear or convolution layer gives the number of features or channels. The function runs the network to
    try each size, in evaluation mode and without gradients, and then restores its mode.

    >>> guess_input(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 28 * 28, 2))).shape
    torch.Size([2, 3, 32, 32])
    """
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Conv1d | nn.Linear)), None)
    if first is None:
        return None
    if isinstance(first, nn.Linear):
        shapes: list[tuple[int, ...]] = [(2, first.in_features)]
    else:
        shapes = [(2, first.in_channels, *[side] * (first.weight.ndim - 2)) for side in SIDES]
    training = module.training
    for shape in shapes:
        try:
            with torch.no_grad():
                module.eval()(torch.zeros(shape))
            return torch.zeros(shape)
        except (RuntimeError, ValueError):
            continue
        finally:
            module.train(training)
    return None
