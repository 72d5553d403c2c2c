"""Copies of a module's parameters and buffers, to compare them with later."""

import torch


def state(module):
    """Copy the parameters and buffers of a module, by name."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(module, before):
    """Return whether a module has exactly the names and values of a `state`."""
    now = module.state_dict()
    return now.keys() == before.keys() and all(torch.equal(value, before[name]) for name, value in now.items())
