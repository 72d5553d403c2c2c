"""Which number format and which attention kernels training takes on a device."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

CPU = torch.device("cpu")
SIDE = 256  # of the square matrices that are timed
ADVANTAGE = 1.2  # how many times faster bfloat16 must be to be worth its rounding


@lru_cache(maxsize=1)
def fastest() -> torch.dtype:
    """Return bfloat16 if products in it are faster here, else float32; timed once in a process.

    A CPU with AMX or AVX-512 BF16 multiplies bfloat16 several times faster than float32; one without emulates it, many
    times slower. PyTorch has no public question for that, so two small products are timed (40 ms at most).

    >>> fastest() in (torch.bfloat16, torch.float32)
    True
    """
    return torch.bfloat16 if seconds(torch.bfloat16) * ADVANTAGE < seconds(torch.float32) else torch.float32


def fastest_on(device: torch.device) -> torch.dtype:
    """Return the format for a device: of a CPU as `fastest` finds, of a GPU bfloat16 if it multiplies that itself."""
    if device.type == "cpu":
        return fastest()
    has = device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere; older ones emulate it
    return torch.bfloat16 if has else torch.float32


def mixed(dtype: torch.dtype, device: torch.device = CPU) -> torch.autocast:
    """Return the context of mixed precision on a device; it does nothing for float32.

    >>> with mixed(torch.float32):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def attention(device: torch.device) -> AbstractContextManager[None]:
    """Return the context with the kernels of attention that train fastest on a device.

    On a CPU the fused kernel's backward pass takes longer than all else together, so products are written out. On a GPU
    PyTorch takes its flash or its memory-efficient kernel where the sizes allow it.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def seconds(dtype: torch.dtype) -> float:
    """Time one product of two square matrices; the best of three after a first one."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device="cpu")
    best = float("inf")
    for repeat in range(4):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began) if repeat else best
    return best
