"""Several processes that train together, started by `torchrun`; without it there is one, and nothing here does a thing.

All processes draw the same random numbers, each codes its share of the rows, and every one computes the loss of the
whole batch from what `gather` and `mean` bring together. Their gradients are such that the *average* over the
processes of a parameter's gradient is that of the whole batch's loss, so `average_gradients` completes a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(days=30)  # others wait while one trains its part of a zoo; torchrun ends them if that one dies
Made = TypeVar("Made")


@contextmanager
def started() -> Iterator[None]:
    """Join the other processes of a `torchrun` job while the block runs; without one, do nothing."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 to `count() - 1`.

    >>> rank(), count()
    (0, 1)
    """
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Say whether this process is the one that writes the files."""
    return rank() == 0


def share() -> slice:
    """Return what this process takes of any sequence: every `count()`-th item, from its rank on.

    >>> list(range(5))[share()]
    [0, 1, 2, 3, 4]
    """
    return slice(rank(), None, count())


def cores() -> int:
    """Return how many cores of this machine a process has, at least 1."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if distributed.is_initialized() else 1
    return max(1, (os.cpu_count() or 1) // beside)


def barrier() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        distributed.barrier()


def once(make: Callable[[], Made], read: Callable[[], Made]) -> Made:
    """Let the first process make something in the shared folder, and the others read it when it is there.

    >>> once(lambda: "made", lambda: "read")
    'made'
    """
    made = make() if is_first() else None
    barrier()
    return read() if made is None else made


def from_first(tensor: Tensor) -> Tensor:
    """Return the first process's tensor; the others give one of the same shape and dtype.

    >>> from_first(torch.tensor([1.0]))
    tensor([1.])
    """
    if count() == 1:
        return tensor
    found = tensor.contiguous().clone()
    _broadcast(found)
    return found


def agreed(number: float) -> float:
    """Return the first process's number, so that all decide alike on what they timed or found on a disk.

    >>> agreed(2)
    2.0
    """
    return from_first(torch.tensor(number, dtype=torch.float64)).item()


def same(number: int) -> bool:
    """Say whether all processes have one number, below 2**53; all get the same answer.

    >>> same(3)
    True
    """
    differs = torch.tensor(float(agreed(number) != number))
    return not mean(differs).item()


def gather(part: Tensor, rows: int) -> Tensor:
    """Put the rows together of which each process has its `share`.

    Args:
        part: this process's rows, those numbered `range(rows)[share()]`, float, (r, ...).
        rows: how many there are in all.

    Returns:
        All rows in their order, (rows, ...), the same in every process; gradients flow to this process's rows.

    >>> gather(torch.tensor([1.0, 2.0]), 2)
    tensor([1., 2.])
    """
    return part if count() == 1 else _Gather.apply(part, rows)  # type: ignore[no-untyped-call]


def mean(part: Tensor) -> Tensor:
    """Average a tensor over the processes; the gradient flows to this process's part.

    >>> mean(torch.tensor(2.0))
    tensor(2.)
    """
    return part if count() == 1 else _Mean.apply(part)  # type: ignore[no-untyped-call]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace all gradients by their average over the processes, in one sum; then they are equal to the last bit."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if count() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    _sum(flat)
    for gradient, found in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(found.view_as(gradient) / count())


class _Gather(torch.autograd.Function):
    """Summing what is zero elsewhere is exact, and takes shares of unequal size."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int) -> Tensor:
        whole = part.new_zeros(rows, *part.shape[1:])
        whole[share()] = part
        _sum(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][share()] * count(), None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.detach().clone()
        _sum(total)
        return total / count()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _sum(tensor: Tensor) -> None:
    distributed.all_reduce(tensor)


def _broadcast(tensor: Tensor) -> None:
    distributed.broadcast(tensor, src=0)
