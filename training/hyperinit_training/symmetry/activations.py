"""Activations of the neurons of permutation groups, for matching neurons that do the same.

Letters: n neurons of a group, S samples of a neuron.

Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836, section 3.1 (matching activations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.layout import KINDS
from hyperinit.layout.layers import NORMS
from hyperinit.modules.state import evaluating
from hyperinit_training.symmetry.functions import outputs, placed
from hyperinit_training.symmetry.positions import Groups

SAMPLES = 1024  # of each neuron and layer


def activations(
    network: nn.Module, inputs: Sequence[Tensor], groups: Groups, sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return what the neurons of each group compute, centred and scaled to length 1.

    These are outputs of convolutions, linear and norm layers whose output neurons are in a group. Of an image, at most
    1,024 places are taken. They are the same for every network.

    Args:
        network: runs in evaluation mode on its device.
        inputs: its positional arguments.
        groups: for each tensor by name, the group of each axis.
        sizes: number of neurons of each group.

    Returns:
        By group, float32 (n, S) on the CPU. A neuron that does the same for all inputs has zeros. Groups without such
        layers are missing.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> found = activations(net, [torch.tensor([[1.0], [2.0]])], {"0.weight": ("0", None)}, {"0": 2})
    >>> found["0"].abs().shape
    torch.Size([2, 2])
    """
    found: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)  # makes all networks take the same places

    def hook(group: str) -> Any:
        def take(part: nn.Module, _: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            rows = output.detach().movedim(_channels(part), 0).reshape(sizes[group], -1)  # (n, places)
            if rows.shape[1] > SAMPLES:
                places = torch.randperm(rows.shape[1], generator=generator)[:SAMPLES]
                rows = rows[:, places.to(rows.device)]
            rows = rows.cpu().double()
            rows = rows - rows.mean(1, keepdim=True)
            length = rows.norm(dim=1, keepdim=True)
            floor = 1e-6 * length.amax().clamp(min=1e-30)  # below it is rounding of constants
            found.setdefault(group, []).append(torch.where(length > floor, rows / length.clamp(min=floor), 0.0).float())

        return take

    hooks = []
    for name, part in network.named_modules():
        group = groups.get(f"{name}.weight" if name else "weight", (None,))[0]
        if group is not None and type(part) in (*KINDS, *NORMS):
            hooks.append(part.register_forward_hook(hook(group)))
    try:
        with evaluating(network):
            outputs(network, placed(network, inputs))
    finally:
        for handle in hooks:
            handle.remove()
    return {group: torch.cat(rows, dim=1) / len(rows) ** 0.5 for group, rows in found.items()}


def _channels(part: nn.Module) -> int:
    """Return the axis of a layer's output that holds its neurons."""
    if isinstance(part, nn.Linear):
        return -1
    if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return -1 - len(part.kernel_size)
    return -len(part.normalized_shape) if isinstance(part, nn.LayerNorm | nn.RMSNorm) else 1
