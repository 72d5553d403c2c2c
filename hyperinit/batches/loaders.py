"""Batches of a user's loader: the forms they may have, and accuracy on them.

Letters used for tensor shapes: B inputs in a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import LONGEST, ArgumentError, BatchError, HyperinitError
from hyperinit.modules.state import device_of, evaluating

Loader = Iterable[Any]


def check_loader(name: str, loader: object) -> None:
    """Check that a loader is an iterable of batches, and neither text nor a tensor, which would yield single inputs.

    Raises:
        ArgumentError: if it is not.
    """
    if isinstance(loader, Tensor | str | bytes | Mapping | nn.Module) or not isinstance(loader, Iterable):
        raise ArgumentError(
            f"{name} must be an iterable of batches, such as a DataLoader or a list, got {type(loader).__name__}"
        )


def read(loader: Loader) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises:
        ArgumentError: if the loader yields none.

    >>> list(read(iter([1, 2])))
    [1, 2]
    """
    empty = True
    for batch in loader:
        empty = False
        yield batch
    if empty:
        raise ArgumentError("a loader must yield at least one batch, got none; a generator can be read only once")


def inputs_of(batch: object) -> Tensor:
    """Return the inputs of a batch: the batch itself, or the first item of a tuple or list.

    Raises:
        ArgumentError: if the inputs are not a tensor.

    >>> inputs_of((torch.zeros(3, 2), torch.zeros(3))).shape
    torch.Size([3, 2])
    """
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        raise ArgumentError(f"a batch must be a tensor, or a tuple or list that begins with one, got {_shown(batch)}")
    return first


def outputs_of(module: nn.Module, inputs: Tensor, number: int) -> Any:
    """Return what a module computes from the inputs of a batch.

    Args:
        module: takes one tensor.
        inputs: moved to the module's device.
        number: of the batch, for messages; the first is 1.

    Raises:
        BatchError: if the module fails on this batch. Out of memory and errors of the user's own classes pass through.

    >>> outputs_of(nn.Flatten(), torch.zeros(3, 2, 2), 1).shape
    torch.Size([3, 4])
    """
    try:
        return module(inputs.to(device_of(module)))
    except (HyperinitError, torch.cuda.OutOfMemoryError):
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        if type(error).__module__.partition(".")[0] not in ("builtins", "torch"):
            raise
        raise BatchError(
            f"batch {number} must be inputs that the module accepts, got {_shown(inputs)}: "
            f"{(str(error).splitlines() or [''])[0][:LONGEST]}; {_advice(module, inputs, error)}"
        ) from error


def _advice(module: nn.Module, inputs: Tensor, error: Exception) -> str:
    """Return what to do about an error of a module's forward."""
    single = next((value.dtype for value in module.parameters() if value.is_floating_point()), inputs.dtype)
    if "more than 1 value per channel" in str(error):
        return "leave out batches of one input, such as with drop_last=True"
    if inputs.dtype != single and "type" in str(error):
        return f"pass inputs in the parameters' dtype, {str(single).removeprefix('torch.')}"
    if isinstance(error, TypeError) and "argument" in str(error):
        return (
            "a module is called with the first item of each batch alone; pass a module that takes one tensor, such as "
            "a wrapper that splits it"
        )
    return "pass the batches that the module is trained on"


def labelled(batch: object) -> tuple[Tensor, Tensor]:
    """Return inputs (B, ...) and labels (B,) of a batch: the first two items of a tuple or list.

    Raises:
        ArgumentError: if either is not a tensor.

    >>> labelled([torch.zeros(3, 2), torch.zeros(3), "names"])[1].shape
    torch.Size([3])
    """
    if isinstance(batch, tuple | list) and len(batch) > 1 and all(isinstance(item, Tensor) for item in batch[:2]):
        return batch[0], batch[1]
    raise ArgumentError(
        f"a labelled batch must be a tuple or list that begins with inputs and labels, got {_shown(batch)}"
    )


def count_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Count right answers, for every leading dimension of the outputs.

    Args:
        outputs: logits, (..., B, C) with at least two classes; a row with NaN counts as wrong.
        labels: class indices from 0 to C - 1, integers (B,), on the same device.

    Returns:
        Numbers of right answers, int64 (...).

    Raises:
        ArgumentError: if these are not logits and class indices, or differ in length.

    >>> count_right(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    tensor(1)
    """
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ArgumentError(
            f"the module must return logits (B, C) of at least two classes, got {_shown(outputs)}; "
            f"accuracy has no meaning for a regression"
        )
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ArgumentError(f"labels must be class indices, integers (B,), got {_shown(labels)}")
    if outputs.shape[-2] != len(labels):
        raise ArgumentError(
            f"logits (B, C) and labels (B,) must be of one length, got {_shown(outputs)} and {_shown(labels)}"
        )
    classes = outputs.shape[-1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ArgumentError(f"labels must be in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    return ((outputs.argmax(-1) == labels) & ~outputs.isnan().any(-1)).sum(-1)


@torch.no_grad()
def accuracy(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the share of right answers, 0 to 1, in evaluation mode. Every part's mode is restored.

    Args:
        module: returns logits (B, C).
        batches: pairs of inputs (B, ...) and class indices (B,); both are moved to the module's device.

    Raises:
        ArgumentError: if there are no inputs, or as for `count_right`.

    >>> accuracy(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 1])), (torch.eye(3)[:1], torch.tensor([0]))])
    0.75
    """
    device = device_of(module)
    right = total = 0
    with evaluating(module):
        for number, (inputs, labels) in enumerate(batches, 1):
            right += int(count_right(outputs_of(module, inputs, number), labels.to(device)))
            total += len(labels)
    if not total:
        raise ArgumentError("accuracy needs at least one labelled input, got none")
    return right / total


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {', '.join(type(item).__name__ for item in value[:4]) or 'nothing'}"
    return type(value).__name__
