"""Calibration: re-estimate the statistics of BatchNorms for a module's present weights, on the user's batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hyperinit.batches.loaders import Loader, check_loader, inputs_of, read
from hyperinit.errors import ArgumentError
from hyperinit.fitting import Plan
from hyperinit.fitting.plan import DRAWN
from hyperinit.layout.layers import NORM
from hyperinit.modules.state import Backup, device_of, evaluating, restoring
from hyperinit.modules.wrappers import wrapped


@dataclass(frozen=True)
class Kept:
    """Layers whose outputs calibration must not change, and the norms that may be set for that.

    Args:
        layers: names of layers that hold a whole tensor of the source, so that they compute the source's features.
        norms: names of norms without a counterpart in the source, whose weight and bias got their default draw.
    """

    layers: frozenset[str] = frozenset()
    norms: frozenset[str] = frozenset()

    @classmethod
    def of(cls, plan: Plan) -> Kept:
        """Read layers and norms from a plan. Both are empty if the source has norms, because its layers need theirs.

        >>> from hyperinit.layout import Layout
        >>> from hyperinit.fitting import make_plan
        >>> wide = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        >>> source = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)))
        >>> kept = Kept.of(make_plan(wide, source))
        >>> sorted(kept.layers), sorted(kept.norms)
        (['0', '3'], ['1'])
        """
        if any(layer.kind == NORM for layer in plan.layout.layers):
            return cls()
        shapes = {tensor.name: tensor.shape for layer in plan.layout.layers for tensor in layer.tensors}
        layers = {
            row.name.removesuffix(".weight")
            for row in plan.rows
            if row.name.endswith(".weight")
            and row.origin in ("exact", "resized")
            and row.source in shapes
            and _holds(row.shape, shapes[row.source])
        }
        drawn = {row.name for row in plan.rows if row.origin == "filled" and row.rest == DRAWN}
        norms = {name.removesuffix(".weight") for name in drawn if name.endswith(".weight")}
        return cls(frozenset(layers), frozenset(name for name in norms if f"{name}.bias" in drawn))


def _holds(shape: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return len(shape) == len(part) and all(size >= least for size, least in zip(shape, part, strict=True))


@torch.no_grad()
def calibrate_(model: nn.Module, loader: Loader, *, batches: int | None = None, kept: Kept | None = None) -> nn.Module:
    """Re-estimate the running statistics of every BatchNorm in place, and return the model.

    Each mean and variance becomes the plain average over the batches, as in `torch.optim.swa_utils.update_bn`. Unlike
    there, dropout and all other parts run in evaluation mode, and every part has its own mode and momentum again
    afterwards. Any exception restores the model. A BatchNorm that no batch reaches keeps its statistics. For a model
    without BatchNorms this is a no-op.

    Args:
        model: any module.
        loader: yields tensors, or tuples or lists that begin with a tensor. Each tensor is moved to the model's device
            and passed to the model. Use the batch size of the training that follows.
        batches: the largest number of batches to use; None uses all.
        kept: layers whose outputs must not change. If one of its norms runs right after one of its layers, with no
            other layer with parameters in between, its weight becomes the square root of its variance plus epsilon,
            and its bias becomes its mean. It then begins as the identity, in training mode too. Ignored in a model
            with wrappers or sharded parameters, whose processes may see different batches.

    Raises:
        ArgumentError: if the loader yields nothing or no tensors, or the statistics are not finite.

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
    undone = {} if kept is None or wrapped(model) else _undoable(model, kept)
    backup = Backup([*model.buffers(), *(value for norm in undone for value in norm.parameters())])
    with restoring(backup), evaluating(model), _estimating(norms.values()):
        device, undoing = device_of(model), _Undoing(model, kept or Kept(), undone)
        # One pass does both estimations: an undone norm passes on its input, so later norms see it as the identity.
        with undoing:
            for batch in read(islice(loader, batches)):
                model(inputs_of(batch).to(device))
        backup.restore(without=_reached(norms))  # norms that no batch reached were reset, too: give those back
        undoing.write()  # needs the final statistics, and must follow the restoring, which would erase it
    return model


def _undoable(model: nn.Module, kept: Kept) -> dict[nn.Module, str]:
    """Find the norms whose weight and bias may be set: both exist, and no other part shares them."""
    uses = Counter(id(value) for part in model.modules() for value in part._parameters.values())
    return {
        part: name
        for name, part in model.named_modules()
        if name in kept.norms
        and _has_statistics(part)
        and all(value is not None and uses[id(value)] == 1 for value in _affine(part))
    }


def _affine(norm: nn.Module) -> list[Tensor | None]:
    return [norm._parameters.get(name) for name in ("weight", "bias")]  # None also if parametrised


class _Undoing:
    """Make norms behind kept layers the identity: by hooks within a block, and by `write` for good.

    The norm still runs, and so updates its statistics, but its hook replaces its output by its input.
    """

    def __init__(self, model: nn.Module, kept: Kept, norms: Mapping[nn.Module, str]) -> None:
        self._layers, self._norms = kept.layers, norms
        self._names = {part: name for name, part in model.named_modules() if part._parameters} if norms else {}
        self._last: str | None = None  # the part with parameters that ran last
        self._undone: dict[nn.Module, bool] = {}  # of each norm, decided when the first batch reaches it
        self._stack = ExitStack()

    def __enter__(self) -> None:
        for part in self._names:
            self._stack.callback(part.register_forward_hook(self._after).remove)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _after(self, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        before, self._last = self._last, self._names[part]
        if part in self._norms and self._undone.setdefault(part, before in self._layers):
            return inputs[0]
        return output

    def write(self) -> None:
        """Set weight and bias of each undone norm so that (x - mean) / sqrt(var + eps) * weight + bias = x."""
        for norm in (norm for norm, undone in self._undone.items() if undone):
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(norm.running_mean)


def _has_statistics(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is not None


@contextmanager
def _estimating(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Let norms average over batches within a block. Afterwards each has its own momentum again."""
    momenta = []
    try:
        for norm in norms:
            assert isinstance(norm, _BatchNorm)
            momenta.append((norm, norm.momentum))
            norm.reset_running_stats()
            norm.momentum = None  # torch's sign for a plain cumulative average
            norm.training = True
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum


def _reached(norms: dict[str, nn.Module]) -> set[int]:
    """Return the ids of the buffers of the norms that a batch has reached. Refuse statistics that are not finite."""
    reached: set[int] = set()
    for name, norm in norms.items():
        buffers = list(norm.buffers(recurse=False))
        if not all(value.isfinite().all() for value in buffers):
            raise ArgumentError(
                f"BatchNorm statistics must be finite, got NaN or infinity in {name!r}; look for NaN in the batches"
            )
        if norm.num_batches_tracked:
            reached.update(map(id, buffers))
    return reached
