"""A zoo of random weights whose layers differ in mean and spread."""

import torch
from seeds import gen


def layered_zoo(layout):
    """Return ten networks (10, D). Layer i has mean i and standard deviation 10 ** (-i / 2)."""
    weights = torch.randn(10, layout.size, generator=gen())
    for number, where in enumerate(layout.layer_slices.values()):
        weights[:, where] = weights[:, where] * 10 ** (-number / 2) + number
    return weights
