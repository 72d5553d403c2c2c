"""The one place that fixes the order of a network's weights inside a flat vector.

Letters used for tensor shapes, here and in the whole package:

    N  number of networks        D  weights per network
    T  neuron tokens per network  L  latent size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout.layers import (
    KINDS,
    MOST_LAYERS,
    MOST_WEIGHTS,
    LayerSpec,
    TensorSpec,
    group_sizes,
    items,
    layer_from_json,
    layer_to_json,
    layers_of,
    reorder,
)

__all__ = ["KINDS", "MOST_LAYERS", "LayerSpec", "Layout", "TensorSpec"]

VARIANCE_FLOOR = 1e-5  # what batch norm adds to a variance by default
PLAIN = {
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d,
    nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Softplus,
    nn.Dropout, nn.Identity, nn.Flatten,
}  # fmt: skip


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
        """Read the layout of a module whose parameters all belong to conv, linear and norm layers.

        The running statistics of norms are part of it. An `nn.Sequential` of plain layers, activations and poolings is
        a chain: every hidden layer's neurons may be reordered together with the inputs of the next. Other modules get
        no permutation groups; `hyperinit_training.symmetry` finds theirs, and `with_groups` takes them.

        Raises:
            LayoutError: if the module holds other parameters, or none at all.
        """
        layers = layers_of(module)
        known = {tensor.name for layer in layers for tensor in layer.tensors}
        other = [name for name, _ in module.named_parameters() if name not in known]
        if other or not layers:
            got = f"also found {', '.join(other[:5])}" if other else "found none"
            raise LayoutError(f"a zoo's network must hold conv, linear and norm layers only, {got}")
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
        return group_sizes(self.tensors)

    def with_groups(self, groups: Mapping[str, tuple[str | None, ...]]) -> Layout:
        """Return the same layout with other permutation groups.

        Args:
            groups: for each tensor, by name, the group of each of its axes, or None. A tensor that is not named has
                no groups.

        Raises:
            LayoutError: if there is no such tensor, or it has another number of axes.

        >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
        >>> layout.with_groups({"0.weight": ("a", None), "0.bias": ("a",), "1.weight": ("a",)}).group_sizes
        {'a': 2}
        """
        axes = {tensor.name: len(tensor.shape) for tensor in self.tensors}
        wrong = [f"{name} with groups {found}" for name, found in groups.items() if len(found) != axes.get(name)]
        if wrong:
            raise LayoutError(f"groups must give one entry for each axis of the layout's tensors, got {wrong[:5]}")
        layers = [
            replace(
                layer,
                tensors=tuple(replace(t, groups=groups.get(t.name, (None,) * axes[t.name])) for t in layer.tensors),
            )
            for layer in self.layers
        ]
        return Layout(tuple(layers))

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Write named tensors, such as a module's state dict, into one float32 vector (D,).

        Integers, such as the number of batches that a norm has seen, are no weights and left out.

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
            if tuple(value.shape) != wanted.get(name) and (name in wanted or value.is_floating_point())
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

    def state(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut weight vectors (..., D) into named tensors that a module may load: no running variance is too small.

        A decoder knows nothing of variances and may give negative ones, of which batch norm would take the root.
        This is the one place where they are raised, to 1e-5 at least; vectors keep what was decoded.

        >>> norm = nn.BatchNorm1d(1)
        >>> Layout.of(norm).state(torch.tensor([1.0, 0.0, 0.5, -2.0]))["running_var"]
        tensor([1.0000e-05])
        """
        variances = {t.name for t in self.tensors if t.buffer and t.name.rpartition(".")[2] == "running_var"}
        tensors = self.unflatten(weights)
        return {name: part.clamp(min=VARIANCE_FLOOR) if name in variances else part for name, part in tensors.items()}

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
        return torch.cat([reorder(tensors[spec.name], spec, orders).reshape(-1) for spec in self.tensors])

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, for the header of an artifact or a zoo."""
        return {"layers": [layer_to_json(layer) for layer in self.layers]}

    @classmethod
    def from_json(cls, data: Any) -> Layout:
        """Inverse of `to_json`.

        Raises:
            LayoutError: if a field is missing or has another type, the tensors of a layer do not share neurons, a
                name comes twice, or there are more than 512 layers, 512 tensors in one of them, or 2^40 weights.
        """
        layout = cls(tuple(layer_from_json(layer) for layer in items(data, "layers", "a layout")))
        if not layout.layers:
            raise LayoutError("a layout must have at least one layer, got none")
        for part in (layout.layers, layout.tensors):
            if len({item.name for item in part}) < len(part):
                raise LayoutError("the layers and the tensors of a layout must have names of their own, got one twice")
        if layout.size > MOST_WEIGHTS:
            raise LayoutError(f"a layout must have at most {MOST_WEIGHTS} weights, got more")
        return layout


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
