"""Data-parallel training in several processes started by `torchrun`. A single process does not communicate.

All processes draw the same random numbers. Each encodes its share of the rows of a batch. `gather` and `mean` combine
the shares, so that every process computes the loss of the whole batch. They scale gradients such that the average of a
parameter's gradient over the processes is its gradient for the whole batch. `average_gradients` computes that average.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from hyperinit.files import values

PATIENCE = timedelta(days=30)  # a process waits while others train their part of a zoo; torchrun ends all if one dies
Made = TypeVar("Made")


@contextmanager
def started() -> Iterator[None]:
    """Join the other processes of a `torchrun` job while the block runs. Outside of such a job this is a no-op."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the rank of this process, 0 to `count() - 1`.

    >>> rank(), count()
    (0, 1)
    """
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process has rank 0, which writes the files."""
    return rank() == 0


def share() -> slice:
    """Return the slice of a sequence that this process handles: every `count()`-th item, starting at its rank.

    >>> list(range(5))[share()]
    [0, 1, 2, 3, 4]
    """
    return slice(rank(), None, count())


def cores() -> int:
    """Return the number of CPU cores per process on this machine, at least 1."""
    local = values.whole("LOCAL_WORLD_SIZE", 1, least=1) if distributed.is_initialized() else 1
    return max(1, (os.cpu_count() or 1) // local)


def barrier() -> None:
    """Wait until all processes have called this function."""
    if count() > 1:
        distributed.barrier()


def once(make: Callable[[], Made], read: Callable[[], Made]) -> Made:
    """Call `make` in the first process, which writes to a shared folder, then `read` in the others.

    >>> once(lambda: "made", lambda: "read")
    'made'
    """
    made = make() if is_first() else None
    barrier()
    return read() if made is None else made


def from_first(tensor: Tensor) -> Tensor:
    """Return the tensor of the first process. The others must pass one of the same shape and dtype.

    >>> from_first(torch.tensor([1.0]))
    tensor([1.])
    """
    if count() == 1:
        return tensor
    found = tensor.contiguous().clone()
    _broadcast(found)
    return found


def agreed(number: float) -> float:
    """Return the number of the first process, so that all processes decide alike on a timing or a file's existence.

    >>> agreed(2)
    2.0
    """
    return from_first(torch.tensor(number, dtype=torch.float64)).item()


def same(number: int) -> bool:
    """Return whether all processes passed an equal number (below 2**53). Every process gets the same answer.

    >>> same(3)
    True
    """
    differs = torch.tensor(float(agreed(number) != number))
    return not mean(differs).item()


def gather(part: Tensor, rows: int) -> Tensor:
    """Combine the rows of all processes, each of which holds its `share`.

    Args:
        part: the rows `range(rows)[share()]` of this process, float, (r, ...).
        rows: number of rows of all processes together.

    Returns:
        All rows in order, (rows, ...), equal in every process. Gradients flow to the rows of this process only.

    >>> gather(torch.tensor([1.0, 2.0]), 2)
    tensor([1., 2.])
    """
    return part if count() == 1 else _Gather.apply(part, rows)  # type: ignore[no-untyped-call]


def mean(part: Tensor) -> Tensor:
    """Average a tensor over the processes. Gradients flow to the tensor of this process only.

    >>> mean(torch.tensor(2.0))
    tensor(2.)
    """
    return part if count() == 1 else _Mean.apply(part)  # type: ignore[no-untyped-call]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace all gradients by their average over the processes, which is bitwise equal in all of them.

    Every process must have gradients for the same parameters, because they travel as one flat vector.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if count() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one all-reduce is faster than many
    _sum(flat)
    for gradient, found in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(found.view_as(gradient) / count())


class _Gather(torch.autograd.Function):
    """Gather rows by a sum. An all-gather would need shares of equal size."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int) -> Tensor:
        whole = part.new_zeros(rows, *part.shape[1:])  # (rows, ...)
        whole[share()] = part
        _sum(whole)  # exact: every row is zero in all processes but one
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # `average_gradients` adds the shares and divides by count(), but the whole gradient is their plain sum.
        return gradients[0][share()] * count(), None


class _Mean(torch.autograd.Function):
    """Average by a sum over the processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.detach().clone()
        _sum(total)
        return total / count()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]  # the factor 1 / count() of a mean cancels with the one explained in `_Gather.backward`


def _sum(tensor: Tensor) -> None:
    distributed.all_reduce(tensor)


def _broadcast(tensor: Tensor) -> None:
    distributed.broadcast(tensor, src=0)
