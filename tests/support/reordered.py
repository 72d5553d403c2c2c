"""Reorder the neurons of one network, tensor by tensor: the oracle for the code that reorders many at once."""

import torch

from hyperinit.layout.layers import reorder


def permutation_index(layout, orders):
    """Return the gather index (D,) that reorders neurons: `weights[..., index]` is the permuted network.

    `orders` has, for each group to reorder, a permutation of its neurons, int64 (neurons,).
    """
    tensors = layout.raw_tensors(torch.arange(layout.size))
    return torch.cat([reorder(tensors[spec.name], spec, orders).reshape(-1) for spec in layout.tensors])
