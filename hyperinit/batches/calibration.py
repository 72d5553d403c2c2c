"""Calibration: re-estimate the statistics of BatchNorms for a module's present weights, on the user's batches."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import chain, islice
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hyperinit.batches.flow import Flow, Passing
from hyperinit.batches.kept import Kept
from hyperinit.batches.loaders import Loader, check_loader, inputs_of, outputs_of, read
from hyperinit.errors import ArgumentError
from hyperinit.generators import undrawn
from hyperinit.modules.state import Backup, Changed, evaluating, has_values, restoring
from hyperinit.modules.wrappers import parts, wrapped


@torch.no_grad()
def calibrate_(model: nn.Module, loader: Loader, *, batches: int | None = None, kept: Kept | None = None) -> nn.Module:
    """Re-estimate the running statistics of every BatchNorm in place, and return the model.

    Each mean and variance becomes the plain average over the batches, as in `torch.optim.swa_utils.update_bn`. Unlike
    there, averages are taken in float32 and cast once, dropout and all other parts run in evaluation mode, and every
    part has its own mode, momentum and other buffers again afterwards. Any exception restores the model. A BatchNorm
    that no batch reaches keeps its statistics. For a model without BatchNorms this is a no-op, unless `kept` says how
    to correct its layers.

    Args:
        model: any module.
        loader: yields tensors, or tuples or lists that begin with a tensor. Each tensor is moved to the model's device
            and passed to the model. Use the batch size of the training that follows.
        batches: the largest number of batches to use; None uses all.
        kept: layers whose outputs must not change, and norms that were left out. If one of its norms reads nothing but
            outputs of its layers, with no other parameters in between, its weight becomes the square root of its
            variance plus epsilon, and its bias becomes its mean. It then begins as the identity, in training mode too.
            This is decided by an extra pass of the first batch. It is ignored in a model with wrappers or sharded
            parameters, whose processes may see different batches. Norms that were left out run in evaluation mode and
            keep their buffers.

    Raises:
        ArgumentError: if the loader yields nothing or no tensors, the statistics are not finite, or a BatchNorm's
            buffers are lazy, expanded or on the meta device.
        BatchError: if the model fails on a batch; the message names it.

    >>> norm = calibrate_(nn.BatchNorm1d(1), [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
    >>> norm.running_mean, norm.running_var, norm.momentum
    (tensor([4.]), tensor([2.]), 0.1)
    """
    check_loader("loader", loader)
    if batches is not None and (type(batches) is not int or batches < 1):
        raise ArgumentError(f"batches must be None or an integer of at least 1, got {batches!r}")
    kept = kept or Kept()
    protected = kept.protected(model)
    norms = {name: part for name, part in parts(model) if _has_statistics(part) and name not in protected}
    _check_not_scripted(model)
    loader = kept.correct_(model, loader)
    if not norms:
        return model
    _check_statistics(norms)
    free = [] if wrapped(model) else _undoable(model, kept, norms)
    backup = Backup([*model.buffers(), *(value for norm in free for value in norm.parameters())], [model])
    averages = Averages(norms)
    with restoring(backup), evaluating(model), averages.plain():
        undone: list[_BatchNorm] = []
        for number, batch in enumerate(read(islice(loader, min(batches or sys.maxsize, sys.maxsize))), 1):
            inputs = inputs_of(batch)
            if not inputs.numel():
                raise ArgumentError(f"batch {number} must hold at least one input, got the shape {tuple(inputs.shape)}")
            if free and number == 1:
                undone = _behind(model, kept, free, inputs)
            averages.start()
            # One pass does both estimations: an undone norm passes on its input, so later norms see it as the identity.
            with Passing(undone) if undone else nullcontext():
                outputs_of(model, inputs, number)
            averages.add(number)
        backup.restore()  # norms that no batch reached were reset, too, and the forward may have changed other buffers
        averages.write()
        for norm in undone:
            _undo(norm)
    return model


def _has_statistics(part: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None


def _check_not_scripted(model: nn.Module) -> None:
    """Refuse norms that `torch.jit` has compiled. They are no instances of BatchNorm, so they would be passed over."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and any(
            key == "running_mean" for key, _ in part.named_buffers("", False)
        ):
            raise ArgumentError(
                f"a model must be calibrated before torch.jit compiles it, got {name or 'a model'} as a ScriptModule"
            )


def _check_statistics(norms: Mapping[str, _BatchNorm]) -> None:
    """Refuse norms whose running statistics cannot be written in place."""
    bad = [name or "the module" for name, norm in norms.items() if not all(map(_is_writable, norm._buffers.values()))]
    if bad:
        raise ArgumentError(
            f"running statistics of BatchNorms must be materialised, dense and in memory of their own, got others in "
            f"{', '.join(bad[:8])}; run one batch through a lazy module, or call to_empty(device=...) on a meta one"
        )


def _is_writable(value: Tensor | None) -> bool:
    if value is None:
        return True
    plain = has_values(value) and value.layout == torch.strided and not value.is_inference()
    return plain and all(step or size < 2 for step, size in zip(value.stride(), value.shape, strict=True))


def _undoable(model: nn.Module, kept: Kept, norms: Mapping[str, _BatchNorm]) -> list[_BatchNorm]:
    """Find the norms whose weight and bias may be set: both exist, and no other part shares them."""
    uses = Counter(id(value) for part in model.modules() for value in part._parameters.values())
    affine = {name: [part._parameters.get(key) for key in ("weight", "bias")] for name, part in norms.items()}
    return [
        part
        for name, part in norms.items()
        if name in kept.norms and all(value is not None and uses[id(value)] == 1 for value in affine[name])
    ]


def _behind(model: nn.Module, kept: Kept, norms: list[_BatchNorm], inputs: Tensor) -> list[_BatchNorm]:
    """Find the norms that read only what kept layers computed, by one pass that changes no generator."""
    devices = {value.device for value in chain(model.parameters(), model.buffers()) if value.is_cuda}
    flow = Flow(model, kept.layers, norms)
    # torch has one CPU generator for all threads, so its state is not exchanged
    with undrawn(), torch.random.fork_rng(devices=list(devices)) if devices else nullcontext(), flow:
        outputs_of(model, inputs, 1)
    return flow.behind


def _undo(norm: _BatchNorm) -> None:
    """Set weight and bias of a norm so that (x - mean) / sqrt(var + eps) * weight + bias = x."""
    mean, variance = _statistics(norm)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)


def _statistics(norm: _BatchNorm) -> list[Tensor]:
    """Return mean and variance in float32 or wider."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [
        value.to(torch.promote_types(value.dtype, torch.float32)) for value in (norm.running_mean, norm.running_var)
    ]


class Averages:
    """Averages of the statistics of norms over batches, in float32 or wider. They are cast once, when written.

    Args:
        norms: by name.
    """

    def __init__(self, norms: Mapping[str, _BatchNorm]) -> None:
        self._norms = norms
        self._counts = dict.fromkeys(norms, 0)
        self._before: dict[str, list[Tensor]] = {}
        self._values: dict[str, list[Tensor]] = {}

    def plain(self) -> Changed:
        """Let the norms average plainly over their calls within a block. Those that do not count take the last call."""
        # None is torch's sign for a plain average
        momenta = [None if norm.num_batches_tracked is not None else 1.0 for norm in self._norms.values()]
        return Changed(self._norms.values(), momentum=momenta, training=[True] * len(momenta))

    def start(self) -> None:
        """Let each norm forget earlier batches at its next call. One that only reads its statistics still has them."""
        for name, norm in self._norms.items():
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
            for value in (norm.running_mean, norm.running_var):
                assert value is not None
                if not value.isfinite().all():  # 0 times NaN would stay NaN
                    value.nan_to_num_(nan=0.0, posinf=1.0, neginf=0.0)
            self._before[name] = [value.clone() for value in _statistics(norm)]

    def add(self, number: int) -> None:
        """Add the statistics of a batch.

        Args:
            number: of the batch, for messages.

        Raises:
            ArgumentError: if statistics are not finite.
        """
        for name, norm in self._norms.items():
            new = _statistics(norm)
            moved = not all(map(torch.equal, new, self._before[name]))
            calls = int(norm.num_batches_tracked or 0) or int(moved)  # of this norm in this batch
            if not all(value.isfinite().all() for value in new):
                raise ArgumentError(
                    f"BatchNorm statistics must be finite, got NaN or infinity in {name!r} after batch {number}; look "
                    f"for NaN in that batch"
                )
            if calls:
                self._counts[name] += calls
                old = self._values.setdefault(name, [torch.zeros_like(value) for value in new])
                share = calls / self._counts[name]
                self._values[name] = [before.lerp(value, share) for before, value in zip(old, new, strict=True)]

    def write(self) -> None:
        """Write the averages into the norms that a batch has reached."""
        for name, averages in self._values.items():
            norm = self._norms[name]
            for value, average in zip((norm.running_mean, norm.running_var), averages, strict=True):
                assert value is not None
                value.copy_(average)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.fill_(self._counts[name])
