"""The number format and the attention kernels that training uses on a device, whatever the caller has set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyperinit.generators import settled

CPU = torch.device("cpu")
SIDE = 256  # rows and columns of the matrices in the timed product
ADVANTAGE = 1.2  # the speed-up from which bfloat16 is worth its rounding errors


@contextmanager
def isolated() -> Iterator[None]:
    """Train as in a fresh process: float32 on the CPU, with gradients, without autocast and inference mode.

    Tensors on other devices are made by naming the device. This holds for the current thread, so every thread of a pool
    enters it. Use it as a decorator, too.

    >>> with torch.no_grad(), torch.device("meta"), isolated():
    ...     torch.is_grad_enabled(), torch.zeros(1).device.type
    (True, 'cpu')
    """
    gpu = torch.autocast("cuda", enabled=False) if torch.is_autocast_enabled("cuda") else nullcontext()
    with settled(), torch.enable_grad(), gpu:
        yield


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


@contextmanager
def mixed(dtype: torch.dtype, device: torch.device = CPU) -> Iterator[None]:
    """Compute in mixed precision on a device while the block runs. It is a no-op for float32.

    >>> with mixed(torch.float32):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            yield
    finally:
        # PyTorch keeps weights in bfloat16 until the outermost autocast ends. If that is the caller's, the next step
        # would compute with the weights from before this one.
        torch.clear_autocast_cache()


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
