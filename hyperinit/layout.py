"""The one place that fixes the order of a network's weights inside a flat vector.

Letters used for tensor shapes, here and in the whole package:

    N  number of networks        D  weights per network
    T  neuron tokens per network  L  latent size
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.checking import shown
from hyperinit.errors import ArgumentError, LayoutError

KINDS: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.Linear: "linear",
}
PLAIN = {
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d,
    nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Softplus,
    nn.Dropout, nn.Identity, nn.Flatten,
}  # fmt: skip
MOST_LAYERS, MOST_AXES, MOST_WEIGHTS = 512, 8, 1 << 40  # of a layout that is read; bounds what is built from it


@dataclass(frozen=True)
class TensorSpec:
    """One parameter: its name in the state dict, its shape, and what moves along its axes.

    `groups[axis]` names the permutation group that reorders this axis, or is None. A group carries the name
    of the layer whose output neurons it reorders. An axis longer than its group moves in equal blocks:
    the inputs of a linear layer after a flatten are one block of pixels per channel.
    """

    name: str
    shape: tuple[int, ...]
    groups: tuple[str | None, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LayerSpec:
    """One layer: tensors that share their first axis, the layer's output neurons."""

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
        """Length of a neuron token: incoming weights, then the bias."""
        return self.size // self.neurons


@dataclass(frozen=True)
class Layout:
    """The ordered layers of a network: module <-> named tensors <-> flat vector <-> neuron tokens.

    The vector goes layer by layer, all weights of a layer before its biases.

    >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> layout.size, [layer.token_length for layer in layout.layers]
    (11, [4, 3])
    """

    layers: tuple[LayerSpec, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Read the layout of a module whose parameters all belong to conv and linear layers.

        An `nn.Sequential` of plain layers, activations and poolings is a chain: every hidden layer's neurons may be
        reordered together with the inputs of the next. Other modules get no permutation groups.

        Raises:
            LayoutError: if the module holds other parameters, or none at all.
        """
        found = [(name, part) for name, part in module.named_modules() if type(part) in KINDS]
        layers = [_layer(name, part) for name, part in found]
        known = {tensor.name for layer in layers for tensor in layer.tensors}
        other = [name for name, _ in module.named_parameters() if name not in known]
        if other or not layers:
            got = f"also found {', '.join(other[:5])}" if other else "found none"
            raise LayoutError(f"a zoo's network must hold conv and linear layers only, {got}")
        if type(module) is nn.Sequential and all(_is_plain(step) for step in module):
            layers = _chain(layers)
        return cls(tuple(layers))

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All tensors in the order of the vector."""
        return tuple(tensor for layer in self.layers for tensor in layer.tensors)

    @property
    def size(self) -> int:
        """D, the length of the weight vector."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def layer_slices(self) -> dict[str, slice]:
        """Where each layer lies in the vector."""
        ends = torch.tensor([layer.size for layer in self.layers]).cumsum(0).tolist()
        pairs = zip(self.layers, ends, strict=True)
        return {layer.name: slice(end - layer.size, end) for layer, end in pairs}

    @cached_property
    def group_sizes(self) -> dict[str, int]:
        """Permutation groups and how many neurons each reorders."""
        used = {group for tensor in self.tensors for group in tensor.groups if group is not None}
        return {layer.name: layer.neurons for layer in self.layers if layer.name in used}

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Write named tensors into one float32 vector (D,).

        Raises:
            LayoutError: listing every tensor that is missing, misshapen or unexpected.
        """
        wanted = {tensor.name: tensor.shape for tensor in self.tensors}
        problems = [f"missing {name} {shape}" for name, shape in wanted.items() if name not in state]
        problems += [
            f"{name} has shape {tuple(value.shape)}, expected {wanted[name]}"
            if name in wanted
            else f"unexpected {name}"
            for name, value in state.items()
            if tuple(value.shape) != wanted.get(name)
        ]
        if problems:
            raise LayoutError(f"tensors do not match the layout: {'; '.join(problems)}")
        return torch.cat([state[tensor.name].detach().reshape(-1).float().cpu() for tensor in self.tensors])

    def unflatten(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut weight vectors (..., D) into named tensors (..., *shape), as views where possible."""
        if weights.shape[-1:] != (self.size,):
            raise ArgumentError(f"weights must have shape (..., {self.size}), got {tuple(weights.shape)}")
        parts = weights.split([tensor.size for tensor in self.tensors], dim=-1)
        return {
            tensor.name: part.reshape(*weights.shape[:-1], *tensor.shape)
            for tensor, part in zip(self.tensors, parts, strict=True)
        }

    def tokens(self, weights: Tensor) -> list[Tensor]:
        """Cut weight vectors (N, D) into neuron tokens, one (N, neurons, token_length) per layer."""
        tensors = self.unflatten(weights)
        return [
            torch.cat([tensors[t.name].reshape(len(weights), layer.neurons, -1) for t in layer.tensors], dim=-1)
            for layer in self.layers
        ]

    def from_tokens(self, tokens: Sequence[Tensor]) -> Tensor:
        """Inverse of `tokens`: back to weight vectors (N, D)."""
        parts = []
        for layer, token in zip(self.layers, tokens, strict=True):
            widths = [tensor.size // layer.neurons for tensor in layer.tensors]
            parts += [part.flatten(1) for part in token.split(widths, dim=-1)]
        return torch.cat(parts, dim=-1)

    def permutation_index(self, orders: Mapping[str, Tensor]) -> Tensor:
        """Gather index (D,) that reorders neurons: `weights[..., index]` is the permuted network.

        Args:
            orders: for each group to reorder, a permutation of its neurons, int64 (neurons,).

        Raises:
            ArgumentError: if there is no such group, or an order is no permutation of its neurons.
        """
        for group, order in orders.items():
            size = self.group_sizes.get(group)
            if size is None or not torch.equal(order.sort().values, torch.arange(size)):
                raise ArgumentError(
                    f"orders must permute the groups {self.group_sizes}, got {order.tolist()} for {group!r}"
                )
        vector = torch.arange(self.size)
        tensors = self.unflatten(vector)
        return torch.cat([_reorder(tensors[spec.name], spec, orders).reshape(-1) for spec in self.tensors])

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, for the header of an artifact or a zoo."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Layout:
        """Inverse of `to_json`.

        Raises:
            LayoutError: if a field is missing or has another type, the tensors of a layer do not share neurons, a
                name comes twice, a group does not fit its axis, or there are more than 512 layers, 512 tensors in
                one of them, or 2^40 weights.
        """
        layout = cls(tuple(_layer_from_json(layer) for layer in _items(data, "layers", "a layout")))
        if not layout.layers:
            raise LayoutError("a layout must have at least one layer, got none")
        for part in (layout.layers, layout.tensors):
            if len({item.name for item in part}) < len(part):
                raise LayoutError("the layers and the tensors of a layout must have names of their own, got one twice")
        if layout.size > MOST_WEIGHTS:
            raise LayoutError(f"a layout must have at most {MOST_WEIGHTS} weights, got more")
        neurons = {layer.name: layer.neurons for layer in layout.layers}
        for tensor in layout.tensors:
            for size, group in zip(tensor.shape, tensor.groups, strict=True):
                if group is not None and (group not in neurons or size % neurons[group]):
                    raise LayoutError(
                        f"tensor {shown(tensor.name)} must have axes that are multiples of their groups, got a length "
                        f"of {size} for {shown(group)} of {neurons.get(group, 'no')} neurons"
                    )
        return layout


def _layer_from_json(data: Any) -> LayerSpec:
    tensors = tuple(_tensor_from_json(tensor) for tensor in _items(data, "tensors", "a layer"))
    name, kind = (_text(data, key, "layer") for key in ("name", "kind"))
    if kind not in KINDS.values():
        raise LayoutError(f"layer {shown(name)} must be of {', '.join(KINDS.values())}, got {shown(kind)}")
    if not tensors or any(tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
        raise LayoutError(f"layer {shown(name)} must hold tensors that share their first axis")
    return LayerSpec(name, kind, tensors)


def _tensor_from_json(data: Any) -> TensorSpec:
    shape, groups = (tuple(_items(data, key, "a tensor")) for key in ("shape", "groups"))
    name = _text(data, "name", "tensor")
    if not 0 < len(shape) <= MOST_AXES or not all(type(n) is int and 0 < n <= MOST_WEIGHTS for n in shape):
        raise LayoutError(f"tensor {shown(name)} must have 1 to {MOST_AXES} positive sizes, got {shown(shape)}")
    if len(groups) != len(shape) or not all(group is None or isinstance(group, str) for group in groups):
        raise LayoutError(f"tensor {shown(name)} must have a group or null for each axis, got {shown(groups)}")
    return TensorSpec(name, shape, groups)


def _items(data: Any, key: str, where: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list | tuple) or len(found) > MOST_LAYERS:
        raise LayoutError(f"{where} must be an object with a list {key} of at most {MOST_LAYERS}, got {shown(data)}")
    return list(found)


def _text(data: Any, key: str, where: str) -> str:
    found = data.get(key)
    if not isinstance(found, str):
        raise LayoutError(f"a {where}'s {key} must be text, got {shown(found)}")
    return found


def _layer(name: str, module: nn.Module) -> LayerSpec:
    prefix = f"{name}." if name else ""
    tensors = tuple(
        TensorSpec(prefix + key, tuple(value.shape), (None,) * value.ndim)
        for key, value in module.named_parameters(recurse=False)
    )
    return LayerSpec(name, KINDS[type(module)], tensors)


def _is_plain(step: nn.Module) -> bool:
    """Tell whether a step of a chain treats all channels alike, so that they may be reordered."""
    return type(step) in PLAIN or (type(step) in KINDS and getattr(step, "groups", 1) == 1)


def _chain(layers: list[LayerSpec]) -> list[LayerSpec]:
    """Give the layers of a chain their groups: outputs carry the layer's name, inputs the previous one's."""
    chained = []
    for index, layer in enumerate(layers):
        after = layer.name if index + 1 < len(layers) else None
        before = layers[index - 1].name if index else None
        tensors = tuple(
            TensorSpec(t.name, t.shape, (after, before, *t.groups[2:])[: len(t.shape)]) for t in layer.tensors
        )
        chained.append(LayerSpec(layer.name, layer.kind, tensors))
    return chained


def _reorder(tensor: Tensor, spec: TensorSpec, orders: Mapping[str, Tensor]) -> Tensor:
    for axis, group in enumerate(spec.groups):
        if group is not None and group in orders:
            order = orders[group]
            blocks = tensor.unflatten(axis, (len(order), -1))
            tensor = blocks.index_select(axis, order).flatten(axis, axis + 1)
    return tensor
