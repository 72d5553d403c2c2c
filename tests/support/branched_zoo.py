"""Checkpoints in families of known sizes, made without training."""

import torch
from torch import nn

from hyperinit.checkpoints.layout import StateLayout
from hyperinit_training.checkpoints.read import Checkpoints


def make():
    """Make the network of `zoo`: 442 parameters and 80 values in buffers."""
    return nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))


def zoo(sizes, noise=0.1, seed=0):
    """Make families of the given sizes around random networks; the buffers are noise that no family shares."""
    generator = torch.Generator().manual_seed(seed)
    layout = StateLayout.of_module(make())
    base = torch.randn(len(sizes), layout.size, generator=generator).repeat_interleave(torch.tensor(sizes), dim=0)
    weights = base + noise * torch.randn(base.shape, generator=generator)
    weights[:, layout.is_buffer] = 100 * torch.rand(len(weights), int(layout.is_buffer.sum()), generator=generator)
    names = tuple(f"{index}.pt" for index in range(len(weights)))
    return Checkpoints(layout, weights, names, names)
