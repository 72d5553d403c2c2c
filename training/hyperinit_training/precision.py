"""Which number format the matrix products of training take on this CPU."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

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


def mixed(dtype: torch.dtype) -> torch.autocast:
    """Return the context of mixed precision on the CPU; it does nothing for float32.

    >>> with mixed(torch.float32):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def seconds(dtype: torch.dtype) -> float:
    """Time one product of two square matrices; the best of three after a first one."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device="cpu")
    best = float("inf")
    for repeat in range(4):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began) if repeat else best
    return best
