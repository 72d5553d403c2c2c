"""What networks compute on example inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError
from hyperinit.modules.state import device_of


def arguments(example_input: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the positional arguments of a network.

    Raises:
        ArgumentError: if they are not a tensor or a tuple of tensors.

    >>> len(arguments(torch.ones(2, 3)))
    1
    """
    found = example_input if isinstance(example_input, tuple) else (example_input,)
    wrong = [type(value).__name__ for value in found if not isinstance(value, Tensor)]
    if wrong or not found:
        got = ", ".join(wrong) or "an empty tuple"
        raise ArgumentError(f"example_input must be a tensor or a tuple of tensors, got {got}")
    return found


def placed(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return inputs on a network's device, float ones in the dtype of its first float parameter.

    >>> placed(nn.Linear(2, 1).double(), [torch.ones(1, 2)])[0].dtype
    torch.float64
    """
    device = device_of(network)
    dtype = next((value.dtype for value in network.parameters() if value.is_floating_point()), None)
    return [value.to(device, dtype if value.is_floating_point() else None) for value in inputs]


@torch.no_grad()
def outputs(network: nn.Module, inputs: Sequence[Tensor], where: str = "") -> list[Tensor]:
    """Return all float tensors that a network returns.

    Args:
        network: runs in its present mode.
        inputs: positional arguments; not modified.
        where: words for the message, such as " in float64".

    Raises:
        ArgumentError: if the network fails, or returns no float tensor.

    >>> outputs(nn.Identity(), [torch.ones(2)])
    [tensor([1., 1.])]
    """
    try:
        found = _float_tensors(network(*(value.clone() for value in inputs)))  # it may modify its input in place
    except Exception as error:  # the module is the user's: whatever it raises explains why it cannot be run
        raise ArgumentError(_refusal(network, where, f"{type(error).__name__}: {error}")) from error
    if not found:
        raise ArgumentError(_refusal(network, where, "none"))
    return found


def in_float64(network: nn.Module, example_input: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return all float outputs of a network in evaluation mode and float64 on the CPU, as one vector.

    Args:
        network: in float64, in evaluation mode, on the CPU.
        example_input: positional arguments, of any float dtype.

    >>> in_float64(nn.Linear(2, 1).double(), torch.ones(3, 2)).shape
    torch.Size([3])
    """
    inputs = [value.double().cpu() if value.is_floating_point() else value.cpu() for value in arguments(example_input)]
    return torch.cat([value.reshape(-1) for value in outputs(network, inputs, " in float64")])


def _refusal(network: nn.Module, where: str, got: str) -> str:
    return f"example_input must be a valid input of {type(network).__name__}{where} with float outputs, got {got}"


def _float_tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for part in parts for tensor in _float_tensors(part)]
