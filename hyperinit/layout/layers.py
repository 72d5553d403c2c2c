"""Layers and tensors of a layout, as data that is read from a module or from JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from hyperinit.errors import LayoutError, shown

KINDS: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.Linear: "linear",
}
NORM = "norm"
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip
MOST_LAYERS, MOST_AXES, MOST_WEIGHTS = 512, 8, 1 << 40  # limits for files, so that reading one stays cheap
STATISTICS = ("running_mean", "running_var")  # of a norm; num_batches_tracked is a counter, not a weight


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name in the state dict, its shape, and the permutation group of each axis.

    `groups[axis]` is the name of the permutation group that reorders this axis, or None. A group has the name of the
    first layer whose output neurons it reorders. An axis longer than its group is reordered in equal blocks. For
    example, the inputs of a linear layer after a flatten have one block of pixels per channel. `buffer` is true for a
    running statistic of a norm and false for a parameter.
    """

    name: str
    shape: tuple[int, ...]
    groups: tuple[str | None, ...]
    buffer: bool = False

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LayerSpec:
    """One layer. The first axis of all its tensors is its output neurons, or the channels of a norm."""

    name: str
    kind: str
    tensors: tuple[TensorSpec, ...]

    @property
    def neurons(self) -> int:
        """Number of output neurons, which is also the number of neuron tokens."""
        return self.tensors[0].shape[0]

    @property
    def size(self) -> int:
        """Number of weights of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def token_length(self) -> int:
        """Length of a neuron token, which holds incoming weights, then the bias, then running statistics of a norm."""
        return self.size // self.neurons


def layers_of(module: nn.Module) -> list[LayerSpec]:
    """List the conv, linear and norm layers of a module that have tensors, in the order of registration.

    >>> [tensor.name for tensor in layers_of(nn.BatchNorm1d(3))[0].tensors]
    ['weight', 'bias', 'running_mean', 'running_var']
    """
    kinds = KINDS | dict.fromkeys(NORMS, NORM)
    found = [_layer(name, kinds[type(part)], part) for name, part in module.named_modules() if type(part) in kinds]
    return [layer for layer in found if layer.tensors]


def group_sizes(tensors: Iterable[TensorSpec]) -> dict[str, int]:
    """Return the number of neurons of each permutation group, in the order in which the groups appear.

    This is the largest number of equal blocks into which all axes of the group can be split.

    >>> group_sizes([TensorSpec("a", (4, 3), ("x", None)), TensorSpec("b", (2, 36), (None, "x"))])
    {'x': 4}
    """
    sizes: dict[str, int] = {}
    for tensor in tensors:
        for group, length in zip(tensor.groups, tensor.shape, strict=True):
            if group is not None:
                sizes[group] = math.gcd(sizes.get(group, 0), length)  # gcd(0, length) is length
    return sizes


def reorder(tensor: Tensor, spec: TensorSpec, orders: Mapping[str, Tensor]) -> Tensor:
    """Return a tensor with the axes reordered whose groups are in `orders`, in equal blocks.

    >>> import torch
    >>> reorder(torch.arange(4), TensorSpec("a", (4,), ("x",)), {"x": torch.tensor([1, 0])})
    tensor([2, 3, 0, 1])
    """
    for axis, group in enumerate(spec.groups):
        if group is not None and group in orders:
            order = orders[group]
            blocks = tensor.unflatten(axis, (len(order), -1))  # (..., length, ...) -> (..., neurons, block, ...)
            tensor = blocks.index_select(axis, order).flatten(axis, axis + 1)  # back to (..., length, ...)
    return tensor


def layer_to_json(layer: LayerSpec) -> dict[str, Any]:
    """Return a layer as lists and dictionaries for JSON. `buffer` is written only if it is true."""
    data = asdict(layer)
    for tensor in data["tensors"]:
        if not tensor["buffer"]:
            del tensor["buffer"]
    return data


def layer_from_json(data: Any) -> LayerSpec:
    """Read a layer from JSON, as `layer_to_json` writes it.

    Raises:
        LayoutError: if a field is missing or has another type or value.
    """
    tensors = tuple(_tensor_from_json(tensor) for tensor in items(data, "tensors", "a layer"))
    name, kind = (_text(data, key, "layer") for key in ("name", "kind"))
    kinds = (*KINDS.values(), NORM)
    if kind not in kinds:
        raise LayoutError(f"layer {shown(name)} must be of {', '.join(kinds)}, got {shown(kind)}")
    if not tensors or any(tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
        raise LayoutError(f"layer {shown(name)} must hold tensors that share their first axis")
    return LayerSpec(name, kind, tensors)


def items(data: Any, key: str, where: str) -> list[Any]:
    """Return the list `data[key]` of a JSON object.

    Raises:
        LayoutError: if `data` is not an object, or if the value is not a list or has more than 512 entries.
    """
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list | tuple) or len(found) > MOST_LAYERS:
        raise LayoutError(f"{where} must be an object with a list {key} of at most {MOST_LAYERS}, got {shown(data)}")
    return list(found)


def _tensor_from_json(data: Any) -> TensorSpec:
    shape, groups = (tuple(items(data, key, "a tensor")) for key in ("shape", "groups"))
    name, buffer = _text(data, "name", "tensor"), data.get("buffer", False)
    if not 0 < len(shape) <= MOST_AXES or not all(type(n) is int and 0 < n <= MOST_WEIGHTS for n in shape):
        raise LayoutError(f"tensor {shown(name)} must have 1 to {MOST_AXES} positive sizes, got {shown(shape)}")
    if len(groups) != len(shape) or not all(group is None or isinstance(group, str) for group in groups):
        raise LayoutError(f"tensor {shown(name)} must have one group or null for each axis, got {shown(groups)}")
    if type(buffer) is not bool:
        raise LayoutError(f"tensor {shown(name)} must have a buffer that is true or false, got {shown(buffer)}")
    return TensorSpec(name, shape, groups, buffer)


def _text(data: Any, key: str, where: str) -> str:
    found = data.get(key)
    if not isinstance(found, str):
        raise LayoutError(f"a {where}'s {key} must be text, got {shown(found)}")
    return found


def _layer(name: str, kind: str, module: nn.Module) -> LayerSpec:
    prefix = f"{name}." if name else ""
    found: list[tuple[str, Tensor, bool]] = [
        (key, value, False) for key, value in module.named_parameters(recurse=False)
    ]
    if kind == NORM:
        found += [(key, value, True) for key, value in module.named_buffers(recurse=False) if key in STATISTICS]
    tensors = tuple(
        TensorSpec(prefix + key, tuple(value.shape), (None,) * value.ndim, buffer) for key, value, buffer in found
    )
    return LayerSpec(name, kind, tensors)
