"""What a layout is made of: tensors and layers, as data, read from a module or from JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

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
STATISTICS = ("running_mean", "running_var")  # of a norm; num_batches_tracked is a count and no weight


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name in the state dict, its shape, and what moves along its axes.

    `groups[axis]` names the permutation group that reorders this axis, or is None. A group carries the name
    of the first layer whose output neurons it reorders. An axis longer than its group moves in equal blocks:
    the inputs of a linear layer after a flatten are one block of pixels per channel. `buffer` tells a running
    statistic of a norm from a parameter.
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
    """One layer: tensors that share their first axis, the layer's output neurons or the norm's channels."""

    name: str
    kind: str
    tensors: tuple[TensorSpec, ...]

    @property
    def neurons(self) -> int:
        """Number of output neurons, which is the number of tokens."""
        return self.tensors[0].shape[0]

    @property
    def size(self) -> int:
        """Number of weights of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def token_length(self) -> int:
        """Length of a neuron token: incoming weights, then the bias, then a norm's running statistics."""
        return self.size // self.neurons


def layers_of(module: nn.Module) -> list[LayerSpec]:
    """List the conv, linear and norm layers of a module that hold tensors, in the order of registration.

    >>> [tensor.name for tensor in layers_of(nn.BatchNorm1d(3))[0].tensors]
    ['weight', 'bias', 'running_mean', 'running_var']
    """
    kinds = KINDS | dict.fromkeys(NORMS, NORM)
    found = [_layer(name, kinds[type(part)], part) for name, part in module.named_modules() if type(part) in kinds]
    return [layer for layer in found if layer.tensors]


def group_sizes(tensors: Iterable[TensorSpec]) -> dict[str, int]:
    """Permutation groups in the order in which they appear, and how many neurons each reorders.

    That is the largest number of equal blocks that all axes of the group can be cut into.

    >>> group_sizes([TensorSpec("a", (4, 3), ("x", None)), TensorSpec("b", (2, 36), (None, "x"))])
    {'x': 4}
    """
    sizes: dict[str, int] = {}
    for tensor in tensors:
        for group, length in zip(tensor.groups, tensor.shape, strict=True):
            if group is not None:
                sizes[group] = math.gcd(sizes.get(group, 0), length)
    return sizes


def reorder(tensor: Tensor, spec: TensorSpec, orders: Mapping[str, Tensor]) -> Tensor:
    """Reorder the axes of one tensor whose groups are in `orders`, block by block; a new tensor.

    >>> import torch
    >>> reorder(torch.arange(4), TensorSpec("a", (4,), ("x",)), {"x": torch.tensor([1, 0])})
    tensor([2, 3, 0, 1])
    """
    for axis, group in enumerate(spec.groups):
        if group is not None and group in orders:
            order = orders[group]
            blocks = tensor.unflatten(axis, (len(order), -1))
            tensor = blocks.index_select(axis, order).flatten(axis, axis + 1)
    return tensor


def layer_to_json(layer: LayerSpec) -> dict[str, Any]:
    """Return plain lists and dictionaries; `buffer` is written only where it is true."""
    data = asdict(layer)
    for tensor in data["tensors"]:
        if not tensor["buffer"]:
            del tensor["buffer"]
    return data


def layer_from_json(data: Any) -> LayerSpec:
    """Inverse of `layer_to_json`.

    Raises:
        KeyError: or TypeError or ValueError, if a field is missing or has another type.
    """
    return LayerSpec(str(data["name"]), str(data["kind"]), tuple(_tensor_from_json(t) for t in data["tensors"]))


def _tensor_from_json(data: Any) -> TensorSpec:
    shape, groups, buffer = tuple(data["shape"]), tuple(data["groups"]), data.get("buffer", False)
    names = all(group is None or isinstance(group, str) for group in groups)
    if not shape or not names or len(groups) != len(shape) or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"tensor {data['name']} has shape {shape} and groups {groups}")
    if type(buffer) is not bool:
        raise ValueError(f"tensor {data['name']} has buffer {buffer!r}, neither true nor false")
    return TensorSpec(str(data["name"]), shape, groups, buffer)


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
