"""Proof of a plan: run a planned module and the source's networks on the same inputs, and compare their outputs.

Letters: k networks side by side, D weights of each, B inputs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, counted, one_line
from hyperinit.fitting.apply import apply_
from hyperinit.fitting.fill import LayerStats
from hyperinit.fitting.plan import Plan
from hyperinit.generators import settled, undrawn
from hyperinit.layout import Layout
from hyperinit.layout.layers import NORM

EXACT = 1e-4  # largest difference, in units of the largest output, that rounding explains


@dataclass(frozen=True)
class Proof:
    """How far a module's outputs are from those of the source's networks.

    Args:
        members: number of networks whose mean the module should compute, k.
        difference: largest absolute difference of outputs; None if they could not be compared.
        scale: largest absolute output of the networks.
        reason: why they could not be compared, or "".
    """

    members: int
    difference: float | None = None
    scale: float = 1.0
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether the outputs are equal up to rounding."""
        return self.difference is not None and self.difference <= EXACT * max(1.0, self.scale)

    def __str__(self) -> str:
        """Return one line for the table of a plan.

        >>> print(Proof(4, 2e-6)), print(Proof(1, 0.31))
        computes the mean of 4 networks (difference 2e-06)
        approximates 1 network of the source (difference 0.3)
        (None, None)
        """
        if self.difference is None:
            return f"outputs were not compared, because {self.reason}"
        networks = counted(self.members, "network")
        what = f"the mean of {networks}" if self.members > 1 else f"{networks} of the source"
        return f"{'computes' if self.exact else 'approximates'} {what} (difference {self.difference:.1g})"


@settled()
def prove(  # noqa: PLR0913 - a module and its plan, the source's networks, and inputs for both
    module: nn.Module,
    plan: Plan,
    network: nn.Module | None,
    weights: Tensor,
    inputs: Tensor,
    *,
    layer_stats: LayerStats | None = None,
) -> Proof:
    """Write weights into a copy of a module at full strength, run it, and compare it with the source's networks.

    The module, the inputs and the global generator do not change. Both run in evaluation mode, in float32 on the CPU.

    Args:
        module: the one that the plan is for.
        plan: for it.
        network: the source's, on any device; only read. None if the source does not describe it.
        weights: of the source's networks, (D,) or (k, D).
        inputs: a batch for the module, (B, ...). If the source's network takes one image channel and the inputs have
            several, it gets their mean, because the module's first layer has its weights spread over them.
        layer_stats: as for `apply_`.

    Raises:
        ArgumentError: if the inputs are no tensor, or the module fails on them.

    >>> from hyperinit.fitting import make_plan
    >>> net, wide = nn.Linear(2, 1), nn.Linear(3, 1)
    >>> print(prove(wide, make_plan(wide, Layout.of(net)), net, torch.ones(3), torch.zeros(1, 3)))
    outputs were not compared, because the source's network fails on such inputs: mat1 and mat2 shapes cannot be \
multiplied (1x3 and 2x1)
    """
    if not isinstance(inputs, Tensor):
        raise ArgumentError(f"example_input must be a tensor with a batch of inputs, got {type(inputs).__name__}")
    inputs = inputs.detach().to("cpu", torch.float32)
    try:
        written = copy.deepcopy(module).to("cpu", torch.float32).eval()
    except Exception as error:  # code of the user's
        return Proof(plan.members, reason=f"the module cannot be copied: {one_line(str(error))}")
    with undrawn():
        apply_(written, plan, weights, generator=torch.Generator(), layer_stats=layer_stats)
        try:
            ours = written(inputs)
        except Exception as error:  # code of the user's
            raise ArgumentError(
                f"example_input must be a batch that the module takes, got {tuple(inputs.shape)}: "
                f"{one_line(str(error))}"
            ) from None
        return _compared(plan, network, weights.reshape(-1, plan.layout.size), inputs, ours)


def _compared(plan: Plan, network: nn.Module | None, weights: Tensor, inputs: Tensor, ours: object) -> Proof:
    if network is None:
        return Proof(plan.members, reason="the source does not describe its network")
    if not isinstance(ours, Tensor):
        return Proof(plan.members, reason=f"the module returns {type(ours).__name__} and not a tensor")
    first = next((layer.tensors[0].shape for layer in plan.layout.layers if layer.kind != NORM), ())
    if first[1:2] == (1,) and inputs.ndim == 4:
        inputs = inputs.mean(1, keepdim=True)
    try:
        theirs = torch.stack([_outputs(network, plan.layout, row, inputs) for row in weights]).mean(0)
    except Exception as error:  # a network of the user's may be a source
        reason = f"the source's network fails on such inputs: {one_line(str(error))}"
        return Proof(plan.members, reason=reason)
    if ours.shape != theirs.shape:
        reason = f"the module returns {tuple(ours.shape)} and the source's networks {tuple(theirs.shape)}"
        return Proof(plan.members, reason=reason)
    return Proof(plan.members, (ours - theirs).abs().max().item(), theirs.abs().max().item())


def _outputs(network: nn.Module, layout: Layout, weights: Tensor, inputs: Tensor) -> Tensor:
    own = copy.deepcopy(network).to_empty(device="cpu") if _is_meta(network) else copy.deepcopy(network).cpu()
    own.load_state_dict(layout.state(weights), strict=False)
    found: Tensor = own.eval()(inputs)
    return found


def _is_meta(network: nn.Module) -> bool:
    return any(value.is_meta for value in network.parameters())
