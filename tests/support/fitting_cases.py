"""Networks to fit the zoo's CNN into, and helpers of the tests of fitting."""

import torch
from torch import nn

from hyperinit.fitting import apply_, make_plan


def put(module, layout, weights, *, generator=None, strength=1.0, layer_stats=None, **choice):
    """Plan with the options in `choice`, and write one weight vector (D,), or several (k, D), into the module."""
    plan = make_plan(module, layout, members=1 if weights.ndim == 1 else len(weights), **choice)
    return apply_(module, plan, weights, generator=generator, strength=strength, layer_stats=layer_stats)


def place(inputs, source, target):
    """Return a map of inputs as a matrix (target, source)."""
    return torch.zeros(target, source).index_put_((inputs.target, inputs.source), inputs.gain, accumulate=True)


def wide(channels=1, kernel=5, padding=0):
    """Make a network of the zoo's CNN's kind, twice as wide."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel, padding=padding), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, kernel, padding=padding), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(72, 40), nn.Tanh(),
        nn.Linear(40, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Other names, norms, a skip convolution, a bare parameter, and layers that the source does not have."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8)
        self.skip, self.body = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 5, bias=False)
        self.depthwise, self.last = nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 2)
        self.scale = nn.Parameter(torch.full((4,), 7.0))
        self.head = nn.Linear(4, 10)
