"""Seeded generators."""

import torch


def gen(seed=0):
    """Make a generator of that seed."""
    return torch.Generator().manual_seed(seed)
