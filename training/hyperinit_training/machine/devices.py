"""Where training runs: on the CPU, or on a GPU that is really there."""

from __future__ import annotations

import os

import torch

from hyperinit.errors import ArgumentError
from hyperinit_training.machine import processes


def device_of(name: str | torch.device) -> torch.device:
    """Return the device of a name, "cpu", "cuda" or "cuda:1"; one that is not there is an error, never another device.

    Of several processes on one machine, each takes "cuda" as the GPU of its own number there.

    Raises:
        ArgumentError: for another kind of device, or a GPU that PyTorch does not see.

    >>> device_of("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArgumentError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise ArgumentError(f"device must be cpu, cuda or cuda:N, got {str(device)!r}")
    if not torch.cuda.is_available():
        raise ArgumentError(
            f"device {device} needs a GPU and a PyTorch built for it, and PyTorch {torch.__version__} sees none here; "
            "say cpu, or install another PyTorch or driver"
        )
    there = torch.cuda.device_count()
    index = device.index
    if index is None:
        index = int(os.environ.get("LOCAL_RANK", 0)) % there if processes.count() > 1 else torch.cuda.current_device()
    if index >= there:
        raise ArgumentError(f"device must be one of cuda:0 to cuda:{there - 1}, got {device}")
    return torch.device("cuda", index)


def global_generator(device: torch.device) -> torch.Generator:
    """Return the generator from which PyTorch draws on a device where nobody gives one, such as for dropout."""
    if device.type == "cpu":
        return torch.default_generator
    found: torch.Generator = torch.cuda.default_generators[device.index]
    return found


def described(device: torch.device) -> str:
    """Name a device for people and files.

    >>> described(torch.device("cpu"))
    'cpu'
    """
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
