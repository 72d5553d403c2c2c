"""The entries of a state dict: names without the prefixes of wrappers, and tensors whose values can be read."""

from __future__ import annotations

import re
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Names under which wrappers hold a network: torch.compile, FSDP and activation checkpoints at any depth;
# DistributedDataParallel, DataParallel, AveragedModel, DeepSpeed and Opacus around the whole network.
INSIDE = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AROUND = re.compile(r"^(?:(?:module|_forward_module|_module)\.)+")


@lru_cache(maxsize=10_000)  # all files of a zoo have the same names
def bare_name(name: str) -> str:
    """Remove the prefixes that wrappers add to a tensor's name.

    >>> bare_name("module._orig_mod.conv.weight"), bare_name("head._orig_mod.bias")
    ('conv.weight', 'head.bias')
    """
    before = None
    while before != name:  # wrappers of one kind may follow each other
        before, name = name, INSIDE.sub(r"\1", name)
    return AROUND.sub("", name)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state dict by bare name, without the extra states that modules may add."""
    state = module.state_dict(keep_vars=True)  # without it, a lazy module's tensors cannot be told from others
    found = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return {bare_name(name): _detached(value) for name, value in found.items()}


def _detached(value: Tensor) -> Tensor:
    return value if is_lazy(value) else value.detach()


def why_unusable(value: Tensor) -> str:
    """Say what a tensor is if its values have no place in a row of numbers; empty for all others.

    >>> why_unusable(torch.eye(2)), why_unusable(torch.eye(2).to_sparse())
    ('', 'a torch.sparse_coo tensor')
    """
    if is_lazy(value):
        return "a lazy tensor, which has no shape before the network has run once"
    if value.is_nested:
        return "a nested tensor"
    if value.is_quantized:
        return f"a quantized tensor of {value.dtype}"
    if value.layout != torch.strided and (value.is_floating_point() or value.is_complex()):
        return f"a {value.layout} tensor"
    return ""
