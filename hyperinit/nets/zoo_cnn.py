"""The CNN of the paper's zoos."""

from __future__ import annotations

from torch import nn

from hyperinit.errors import ArgumentError, shown
from hyperinit.nets.description import LARGEST, MODULES


def cnn(channels: int = 1, activation: str = "tanh") -> nn.Sequential:
    """Return the CNN of the zoos, for 28x28 images and 10 classes, with pooling before the activation.

    It has 2,464 parameters for one input channel and 2,864 for three.

    Args:
        channels: input channels, 1 or 3.
        activation: "tanh", "gelu", "relu" or "sigmoid".

    Raises:
        ArgumentError: if `channels` is no positive integer, or `activation` is another name.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Table 6.

    >>> sum(p.numel() for p in cnn(channels=3).parameters())
    2864
    """
    if type(channels) is not int or not 1 <= channels <= LARGEST:
        raise ArgumentError(f"channels must be an integer of at least 1, got {shown(channels)}")
    if not isinstance(activation, str) or activation not in ("tanh", "gelu", "relu", "sigmoid"):
        raise ArgumentError(f"activation must be tanh, gelu, relu or sigmoid, got {shown(activation)}")
    act = MODULES[activation][0]
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(),
        nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(),
        nn.Conv2d(6, 4, 2), act(), nn.Flatten(),
        nn.Linear(36, 20), act(),
        nn.Linear(20, 10),
    )  # fmt: skip
