"""The state of a user's module: its modes, its device, and copies of its buffers to restore."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


class Backup:
    """Copies of tensors, from which `restore` writes the old values back in place.

    The tensors keep their identity and memory, so optimizers and views that refer to them stay valid.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @classmethod
    def of(cls, module: nn.Module) -> Backup:
        """Copy a module's parameters and buffers."""
        return cls([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def restore(self, *, without: Collection[int] = ()) -> None:
        """Write the old values back into every tensor that has changed, except those whose `id` is in `without`.

        >>> values = torch.zeros(2)
        >>> backup = Backup([values])
        >>> values += 1
        >>> backup.restore()
        >>> values
        tensor([0., 0.])
        """
        for tensor, copy in self._copies:
            # copy_ refuses an expanded tensor even where nothing changed, so compare first
            if id(tensor) not in without and not torch.equal(tensor, copy):
                tensor.copy_(copy)


@contextmanager
def restoring(backup: Backup) -> Iterator[None]:
    """Restore a backup if the block raises any exception, KeyboardInterrupt included."""
    try:
        yield
    except BaseException:
        backup.restore()
        raise


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter or buffer, or the CPU if it has none.

    >>> device_of(nn.Linear(1, 1))
    device(type='cpu')
    """
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts in evaluation mode within a block. Afterwards each part has its own mode again.

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
