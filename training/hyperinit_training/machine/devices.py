"""The device that trains: the CPU, or a GPU that is available."""

from __future__ import annotations

import torch

from hyperinit.errors import ArgumentError
from hyperinit.files import values
from hyperinit_training.machine import processes


def device_of(name: str | torch.device) -> torch.device:
    """Return the device called "cpu", "cuda" or "cuda:N". An unavailable device is an error; there is no fallback.

    If several processes train together, "cuda" is the GPU with the process's local rank.

    Raises:
        ArgumentError: for another kind of device, or a GPU that PyTorch does not find.

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
            f"device {device} needs a GPU and a PyTorch built for it, but PyTorch {torch.__version__} finds no GPU; "
            "choose device cpu, or install a matching PyTorch build and driver"
        )
    available = torch.cuda.device_count()
    index = device.index
    if index is None:
        local_rank = values.whole("LOCAL_RANK", 0)  # torchrun sets it; processes beyond the last GPU share
        index = local_rank % available if processes.count() > 1 else torch.cuda.current_device()
    if index >= available:
        raise ArgumentError(f"device must be one of cuda:0 to cuda:{available - 1}, got {device}")
    return torch.device("cuda", index)


def global_generator(device: torch.device) -> torch.Generator:
    """Return PyTorch's default generator of a device, from which for example dropout draws."""
    if device.type == "cpu":
        return torch.default_generator
    found: torch.Generator = torch.cuda.default_generators[device.index]
    return found


def described(device: torch.device) -> str:
    """Return the name of a device for messages and files, with the GPU's model.

    >>> described(torch.device("cpu"))
    'cpu'
    """
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
