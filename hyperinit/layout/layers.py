"""Layers and tensors of a layout, as data that is read from a module or from JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperinit.errors import LayoutError, one_line, shown

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
LONGEST_NAME = 512  # characters of the name of a layer, a tensor or a group
AXES = {"conv1d": 3, "conv2d": 4, "conv3d": 5, "linear": 2}  # of the weight: outputs, inputs, kernel
PARAMETERS = ("weight", "bias")
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

    Raises:
        LayoutError: if a layer holds other tensors than one of its kind, such as `weight_g` of a weight norm.

    >>> [tensor.name for tensor in layers_of(nn.BatchNorm1d(3))[0].tensors]
    ['weight', 'bias', 'running_mean', 'running_var']
    """
    kinds = KINDS | dict.fromkeys(NORMS, NORM)
    found = [
        _layer(name, kinds[type(part)], part)
        for name, part in module.named_modules()
        if type(part) in kinds and fits(part)
    ]
    return [checked(layer) for layer in found if layer.tensors]


def checked(layer: LayerSpec) -> LayerSpec:
    """Return a layer whose tensors are those of a module of its kind. Every way to a layout goes through here.

    Raises:
        LayoutError: if a name, the order, a number of axes or a buffer is not as in such a module.

    >>> checked(LayerSpec("0", "linear", (TensorSpec("0.weight", (2, 3), (None, None)),))).token_length
    3
    """
    prefix = f"{layer.name}." if layer.name else ""
    norm = layer.kind == NORM
    order = (*PARAMETERS, *STATISTICS) if norm else PARAMETERS
    names = [tensor.name for tensor in layer.tensors]
    known = [prefix + key for key in order]
    if names != [name for name in known if name in names] or not (norm or names[:1] == known[:1]):
        most = ", ".join(order) if norm else "weight and at most a bias"
        got = ", ".join(map(shown, names[:5])) or "none"
        raise LayoutError(f"layer {shown(layer.name)} of kind {layer.kind} must hold {most} in this order, got {got}")
    for tensor in layer.tensors:
        key = tensor.name.removeprefix(prefix)
        axes = {"weight": AXES.get(layer.kind), "bias": None if norm else 1}.get(key, 1)
        if axes is not None and len(tensor.shape) != axes:
            raise LayoutError(
                f"{key} of {shown(layer.name)} must have {'1 axis' if axes == 1 else f'{axes} axes'}, as in a "
                f"{layer.kind}, got the shape {shown(tensor.shape)}"
            )
        if tensor.buffer != (key in STATISTICS):
            raise LayoutError(f"a buffer must be true for running statistics alone, got it wrong for {shown(key)}")
    shapes = {tensor.shape[: None if norm else 1] for tensor in layer.tensors}
    if len(shapes) > 1:
        shared = "their shape" if norm else "their first axis"
        raise LayoutError(f"layer {shown(layer.name)} must hold tensors that share {shared}, got {shown(shapes)}")
    return layer


def fits(module: nn.Module) -> bool:
    """Return whether the tensors of a conv, linear or norm layer have the shapes that its attributes announce.

    A packed weight, such as a 4-bit one, has another shape or holds integers. A lazy one has no shape yet. Modules of
    other kinds fit.

    >>> linear = nn.Linear(4, 2)
    >>> fits(linear), linear.register_parameter("weight", nn.Parameter(linear.weight.detach().reshape(8, 1)))
    (True, None)
    >>> fits(linear)
    False
    """
    shape = _announced(module)
    if shape is None:
        return True
    norm = isinstance(module, NORMS)
    held = {**module._parameters, **{key: module._buffers.get(key) for key in STATISTICS}}
    wanted = {"weight": shape, "bias": shape if norm else shape[:1]} | dict.fromkeys(STATISTICS, shape)
    return not any(
        value is not None and (is_lazy(value) or tuple(value.shape) != wanted[key] or not value.is_floating_point())
        for key, value in held.items()
        if key in wanted
    )


def _announced(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of the weight that the attributes of a layer announce, or None if it is no layer."""
    announced: Any = None
    if isinstance(module, nn.Linear):
        announced = (module.out_features, module.in_features)
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        announced = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    elif isinstance(module, nn.GroupNorm):
        announced = (module.num_channels,)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        announced = module.normalized_shape
    elif isinstance(module, NORMS):
        announced = (module.num_features,)
    return None if announced is None else tuple(announced)


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
    if not tensors:
        raise LayoutError(f"layer {shown(name)} must hold tensors that share their first axis, got none")
    return checked(LayerSpec(name, kind, tensors))


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
    if len(groups) != len(shape) or not all(group is None or _is_name(group) for group in groups):
        raise LayoutError(f"tensor {shown(name)} must have one group or null for each axis, got {shown(groups)}")
    if type(buffer) is not bool:
        raise LayoutError(f"tensor {shown(name)} must have a buffer that is true or false, got {shown(buffer)}")
    return TensorSpec(name, shape, groups, buffer)


def _text(data: Any, key: str, where: str) -> str:
    found = data.get(key)
    if not isinstance(found, str):
        raise LayoutError(f"a {where}'s {key} must be text, got {shown(found)}")
    if not _is_name(found):
        raise LayoutError(
            f"a {where}'s {key} must be one line of at most {LONGEST_NAME} characters, got {shown(found)}"
        )
    return found


def _is_name(value: Any) -> bool:
    """Return whether a value is text that can be printed as a name: not too long, and without control characters."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME and one_line(value) == value


def _layer(name: str, kind: str, module: nn.Module) -> LayerSpec:
    prefix = f"{name}." if name else ""
    own = dict(module.named_parameters(recurse=False))
    # A removed weight norm or parametrisation leaves the weight behind the bias, so the usual names go first.
    keys = [*(key for key in PARAMETERS if key in own), *(key for key in own if key not in PARAMETERS)]
    found: list[tuple[str, Tensor, bool]] = [(key, own[key], False) for key in keys]
    if kind == NORM:
        found += [(key, value, True) for key, value in module.named_buffers(recurse=False) if key in STATISTICS]
    tensors = tuple(
        TensorSpec(prefix + key, tuple(value.shape), (None,) * value.ndim, buffer) for key, value, buffer in found
    )
    return LayerSpec(name, kind, tensors)
