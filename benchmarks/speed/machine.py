"""Measured limits of this machine, which give the floors of the rows, and the peak memory of a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache

import torch


@lru_cache(maxsize=4)
def flops(dtype: torch.dtype = torch.float32, side: int = 1024) -> float:
    """Return operations per second of a large matrix product, the best of several, with all threads of PyTorch.

    A multiply-add counts as two operations.
    """
    matrix = torch.randn(side, side).to(dtype)
    return 2 * side**3 / _best(lambda: matrix @ matrix)


@lru_cache(maxsize=1)
def bandwidth() -> float:
    """Return bytes per second, read plus written, of a copy that is larger than the cache."""
    source = torch.randn(1 << 25)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _best(lambda: target.copy_(source))


def _best(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def peak_memory(code: str) -> float:
    """Run Python code in a fresh process and return its peak memory in MiB.

    The peak is read from /proc, because on Linux that of `getrusage` includes the peak of the parent process.
    """
    shown = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", code + shown], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) / 1024
