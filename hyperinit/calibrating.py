"""Calibration: BatchNorm statistics that belong to the weights a module has now, estimated on a user's batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hyperinit.errors import ArgumentError
from hyperinit.evaluating import Loader, check_loader, device_of, evaluating, inputs_of, read


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


@torch.no_grad()
def calibrate_(model: nn.Module, loader: Loader, *, batches: int | None = None) -> nn.Module:
    """Estimate the running statistics of every BatchNorm anew, in place, and return the model.

    The mean and the variance of each become the plain averages of those of the batches, as `update_bn` of
    `torch.optim.swa_utils` does it. Unlike there, dropout and everything else stay in evaluation mode, every part
    keeps its own mode and momentum, and if anything is raised the model is as it was before. A BatchNorm that no
    batch reaches keeps its statistics; a model without one is returned at once.

    Args:
        model: any module.
        loader: yields tensors, or tuples or lists that begin with one: what the model is called with, once it is
            on the model's device. Take batches of the size that the model will be trained with.
        batches: how many to use at most; None takes all.

    Raises:
        ArgumentError: if the loader yields nothing or something else, or the statistics are not finite.

    >>> norm = calibrate_(nn.BatchNorm1d(1), [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
    >>> norm.running_mean, norm.running_var, norm.momentum
    (tensor([4.]), tensor([2.]), 0.1)
    """
    check_loader("loader", loader)
    if batches is not None and (type(batches) is not int or batches < 1):
        raise ArgumentError(f"batches must be None or an integer of at least 1, got {batches!r}")
    norms = {name: part for name, part in model.named_modules() if _has_statistics(part)}
    if not norms:
        return model
    backup = Backup(model.buffers())
    with restoring(backup), evaluating(model), _estimating(norms.values()):
        device = device_of(model)
        for batch in read(islice(loader, batches)):
            model(inputs_of(batch).to(device))
        reached = _reached(norms)
        backup.restore(without=reached)
    return model


def _has_statistics(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is not None


@contextmanager
def _estimating(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Let norms take plain averages from now on; each gets its momentum back."""
    momenta = []
    try:
        for norm in norms:
            assert isinstance(norm, _BatchNorm)
            momenta.append((norm, norm.momentum))
            norm.reset_running_stats()
            norm.momentum = None
            norm.training = True
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum


def _reached(norms: dict[str, nn.Module]) -> set[int]:
    """Return the ids of the buffers of the norms that a batch has reached, all of them finite."""
    reached: set[int] = set()
    for name, norm in norms.items():
        buffers = list(norm.buffers(recurse=False))
        if not all(value.isfinite().all() for value in buffers):
            raise ArgumentError(
                f"BatchNorm statistics must be finite, got others in {name!r}; look for NaN in the batches"
            )
        if norm.num_batches_tracked:
            reached.update(map(id, buffers))
    return reached
