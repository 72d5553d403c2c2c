"""The state of a user's module: its modes, its device, and copies of its buffers to restore."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


class Backup:
    """Copies of tensors, to be put back in place."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @classmethod
    def of(cls, module: nn.Module) -> Backup:
        """Copy a module's parameters and buffers."""
        return cls([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def restore(self, *, without: Collection[int] = ()) -> None:
        """Give every tensor that has changed its old values back, but for those whose `id` is in `without`.

        >>> values = torch.zeros(2)
        >>> backup = Backup([values])
        >>> values += 1
        >>> backup.restore()
        >>> values
        tensor([0., 0.])
        """
        for tensor, copy in self._copies:
            if id(tensor) not in without and not torch.equal(tensor, copy):  # one that is expanded takes no copies
                tensor.copy_(copy)


@contextmanager
def restoring(backup: Backup) -> Iterator[None]:
    """Put a backup back if the block raises anything, Ctrl-C included."""
    try:
        yield
    except BaseException:
        backup.restore()
        raise


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's inputs belong: with its first parameter or buffer, or on the CPU if it has none.

    >>> device_of(nn.Linear(1, 1))
    device(type='cpu')
    """
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts in evaluation mode for a while; each gets its own mode back.

    >>> dropout = nn.Dropout()
    >>> with evaluating(nn.Sequential(dropout)):
    ...     print(dropout.training)
    False
    >>> dropout.training
    True
    """
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
