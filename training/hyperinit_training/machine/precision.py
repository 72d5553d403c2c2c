"""The number format and the attention kernels that training uses on a device."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

CPU = torch.device("cpu")
SIDE = 256  # rows and columns of the matrices in the timed product
ADVANTAGE = 1.2  # the speed-up from which bfloat16 is worth its rounding errors


@lru_cache(maxsize=1)
def fastest() -> torch.dtype:
    """Return bfloat16 if this CPU multiplies it clearly faster than float32, else float32. Timed once per process.

    A CPU with AMX or AVX-512 BF16 multiplies bfloat16 several times faster than float32. Other CPUs emulate it, which
    is many times slower. PyTorch has no public function to query this, so two small products are timed (at most 40 ms).

    >>> fastest() in (torch.bfloat16, torch.float32)
    True
    """
    return torch.bfloat16 if seconds(torch.bfloat16) * ADVANTAGE < seconds(torch.float32) else torch.float32


def fastest_on(device: torch.device) -> torch.dtype:
    """Return the format for a device: `fastest()` for a CPU, bfloat16 for a GPU that supports it, else float32."""
    if device.type == "cpu":
        return fastest()
    supported = device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    return torch.bfloat16 if supported else torch.float32


def mixed(dtype: torch.dtype, device: torch.device = CPU) -> torch.autocast:
    """Return the context manager for mixed precision on a device. It is a no-op for float32.

    >>> with mixed(torch.float32):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def attention(device: torch.device) -> AbstractContextManager[None]:
    """Return the context manager that selects the fastest attention kernels for training on a device.

    On a CPU the backward pass of the fused kernel takes longer than the rest of a step, so the math kernel is selected.
    On a GPU the context is a no-op: PyTorch selects its flash or memory-efficient kernel where the shapes allow it.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def seconds(dtype: torch.dtype) -> float:
    """Return the seconds of one product of two square matrices: the best of three after one warm-up."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device="cpu")
    best = float("inf")
    for repeat in range(4):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began) if repeat else best
    return best
