"""The layout of a network, which defines the order of its weights in a flat vector.

Letters used for tensor shapes, here and in the whole package:

    N  number of networks        D  weights per network
    T  neuron tokens per network  L  latent size
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, one_line
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
)

__all__ = ["KINDS", "MOST_LAYERS", "LayerSpec", "Layout", "TensorSpec"]

MOST_PROBLEMS = 20  # that one message lists
VARIANCE_FLOOR = 1e-5  # the default eps of batch norm
PLAIN = {  # steps that treat all channels alike
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d,
    nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Softplus,
    nn.Dropout, nn.Identity, nn.Flatten,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The ordered layers of a network, and conversions between named tensors, flat vectors and neuron tokens.

    The vector holds one layer after the other, and in each layer all weights before the biases.

    >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> layout.size, [layer.token_length for layer in layout.layers]
    (11, [4, 3])
    """

    layers: tuple[LayerSpec, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Read the layout of a module whose parameters all belong to conv, linear and norm layers.

        The layout includes the running statistics of norms. An `nn.Sequential` of plain layers, activations and
        poolings is a chain. In a chain the neurons of each hidden layer can be reordered together with the inputs of
        the next layer, so each hidden layer gets a permutation group. Other modules get no groups. Find their groups
        with `hyperinit_training.symmetry` and pass them to `with_groups`.

        Raises:
            LayoutError: if the module has other parameters, or no conv, linear or norm layer, or a layer holds other
                tensors than one of its kind.
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
        """All tensors, in the order of the vector."""
        return tuple(tensor for layer in self.layers for tensor in layer.tensors)

    @property
    def size(self) -> int:
        """D, the length of the weight vector."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def layer_slices(self) -> dict[str, slice]:
        """The slice of the vector that holds each layer, by the name of the layer."""
        ends = accumulate(layer.size for layer in self.layers)
        pairs = zip(self.layers, ends, strict=True)
        return {layer.name: slice(end - layer.size, end) for layer, end in pairs}

    @cached_property
    def group_sizes(self) -> dict[str, int]:
        """The number of neurons of each permutation group, by its name."""
        return group_sizes(self.tensors)

    def with_groups(self, groups: Mapping[str, tuple[str | None, ...]]) -> Layout:
        """Return the same layout with other permutation groups.

        Args:
            groups: the group of each axis, or None, for each tensor by name. Tensors that are not named get no groups.

        Raises:
            LayoutError: if a tensor is unknown or has another number of axes.

        >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
        >>> layout.with_groups({"0.weight": ("a", None), "0.bias": ("a",), "1.weight": ("a",)}).group_sizes
        {'a': 2}
        """
        axes = {tensor.name: len(tensor.shape) for tensor in self.tensors}
        wrong = [f"{name} with groups {found}" for name, found in groups.items() if len(found) != axes.get(name)]
        if wrong:
            got = "; ".join(wrong[:5])
            raise LayoutError(f"groups must give one entry for each axis of the layout's tensors, got {got}")
        layers = [
            replace(
                layer,
                tensors=tuple(replace(t, groups=groups.get(t.name, (None,) * axes[t.name])) for t in layer.tensors),
            )
            for layer in self.layers
        ]
        return Layout(tuple(layers))

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Concatenate named tensors, such as a module's state dict, into one float32 vector (D,) on the CPU.

        Unknown integer tensors, such as the number of batches that a norm has seen, are ignored.

        Raises:
            LayoutError: if tensors are missing, unexpected or of another shape. The message lists the first 20.
        """
        wanted = {tensor.name: tensor.shape for tensor in self.tensors}
        for name, value in state.items():
            if name in wanted or not isinstance(value, Tensor):
                _check_dense(name, value)
        problems = [f"missing {name} {shape}" for name, shape in wanted.items() if name not in state]
        problems += [
            f"{name} has shape {tuple(value.shape)}, expected {wanted[name]}"
            if name in wanted
            else f"unexpected {name}"
            for name, value in state.items()
            if tuple(value.shape) != wanted.get(name) and (name in wanted or value.is_floating_point())
        ]
        if problems:
            more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
            raise LayoutError(f"tensors do not match the layout: {'; '.join(problems[:MOST_PROBLEMS])}{more}")
        parts = {tensor.name: state[tensor.name].detach().reshape(-1) for tensor in self.tensors}
        vector = torch.cat([part.float().cpu() for part in parts.values()])
        if vector.isinf().any():  # a wider dtype may hold what float32 cannot
            for name, part in parts.items():
                if bool((part.float().isinf() & part.isfinite()).any()):
                    raise LayoutError(f"{one_line(name)} must hold numbers that fit float32, got larger ones")
        return vector

    def raw_tensors(self, weights: Tensor) -> dict[str, Tensor]:
        """Split weight vectors (..., D) into named tensors (..., *shape), as views where possible, values unchanged.

        A decoder can produce running variances below zero. For tensors that a module loads, use `state`.

        Raises:
            ArgumentError: if the last axis of `weights` does not have length D.
        """
        if weights.shape[-1:] != (self.size,):
            raise ArgumentError(f"weights must have shape (..., {self.size}), got {tuple(weights.shape)}")
        parts = weights.split([tensor.size for tensor in self.tensors], dim=-1)
        return {
            tensor.name: part.reshape(*weights.shape[:-1], *tensor.shape)
            for tensor, part in zip(self.tensors, parts, strict=True)
        }

    def state(self, weights: Tensor) -> dict[str, Tensor]:
        """Split weight vectors (..., D) into tensors that a module can load, with running variances of at least 1e-5.

        A decoder can produce negative variances, for which batch norm would return NaN. Only this method raises them.
        Weight vectors keep the decoded values.

        >>> norm = nn.BatchNorm1d(1)
        >>> Layout.of(norm).state(torch.tensor([1.0, 0.0, 0.5, -2.0]))["running_var"]
        tensor([1.0000e-05])
        """
        variances = {t.name for t in self.tensors if t.buffer and t.name.rpartition(".")[2] == "running_var"}
        tensors = self.raw_tensors(weights)
        return {name: part.clamp(min=VARIANCE_FLOOR) if name in variances else part for name, part in tensors.items()}

    def places(self) -> dict[str, Tensor]:
        """Return the place of each value of each tensor in the weight vector, int64 (*shape) by name.

        >>> Layout.of(nn.Linear(2, 1)).places()
        {'weight': tensor([[0, 1]]), 'bias': tensor([2])}
        """
        return self.raw_tensors(torch.arange(self.size, device="cpu"))

    def tokens(self, weights: Tensor) -> list[Tensor]:
        """Split weight vectors (N, D) into neuron tokens, one tensor (N, neurons, token_length) per layer."""
        tensors = self.raw_tensors(weights)  # each (N, neurons, ...)
        tokens = []
        for layer in self.layers:
            # One row per neuron: (N, neurons, ...) -> (N, neurons, weights of this tensor per neuron)
            parts = [tensors[t.name].reshape(len(weights), layer.neurons, -1) for t in layer.tensors]
            tokens.append(torch.cat(parts, dim=-1))  # (N, neurons, token_length)
        return tokens

    def from_tokens(self, tokens: Sequence[Tensor]) -> Tensor:
        """Join neuron tokens, as `tokens` returns them, to weight vectors (N, D)."""
        parts = []
        for layer, token in zip(self.layers, tokens, strict=True):  # token: (N, neurons, token_length)
            widths = [tensor.size // layer.neurons for tensor in layer.tensors]  # sum to token_length
            parts += [part.flatten(1) for part in token.split(widths, dim=-1)]  # each (N, size of the tensor)
        return torch.cat(parts, dim=-1)  # (N, D)

    def to_json(self) -> dict[str, Any]:
        """Return the layout as lists and dictionaries, for the header of an artifact or a zoo."""
        return {"layers": [layer_to_json(layer) for layer in self.layers]}

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the names, kinds, shapes and permutation groups of all layers and tensors.

        Activations are not part of a layout, so networks that differ only in them have equal digests.

        >>> Layout.of(nn.Linear(3, 2)).digest == Layout.of(nn.Linear(3, 2)).digest != Layout.of(nn.Linear(2, 3)).digest
        True
        """
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, data: Any) -> Layout:
        """Read a layout from JSON, as `to_json` writes it.

        Raises:
            LayoutError: if a field is missing or has another type, the tensors of a layer are not those of a module of
                its kind, a name is not unique, or there are more than 512 layers or 2^40 weights.
        """
        layout = cls(tuple(layer_from_json(layer) for layer in items(data, "layers", "a layout")))
        if not layout.layers:
            raise LayoutError("a layout must have at least one layer, got none")
        for part in (layout.layers, layout.tensors):
            if len({item.name for item in part}) < len(part):
                raise LayoutError("names of layers and of tensors must be unique in a layout, got one twice")
        if layout.size > MOST_WEIGHTS:
            raise LayoutError(f"a layout must have at most {MOST_WEIGHTS} weights, got more")
        return layout


class GivenLayout(Layout):
    """The layout of trained networks that a caller gave. Their running variances are valid, so none is raised."""

    def state(self, weights: Tensor) -> dict[str, Tensor]:
        """Split weight vectors (..., D) into tensors that a module can load."""
        return self.raw_tensors(weights)


def _check_dense(name: str, value: object) -> None:
    """Refuse what is no dense tensor of real numbers: its values could not be read, or only a part of them."""
    if not isinstance(value, Tensor):
        got = type(value).__name__
    elif value.layout is not torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        got = "a nested tensor" if value.is_nested else f"{value.layout} of {value.dtype} on {value.device}"
    elif value.is_complex():
        got = str(value.dtype)
    else:
        return
    raise LayoutError(f"{one_line(name)} must be a dense tensor of real numbers, got {got}")


def _is_plain(step: nn.Module) -> bool:
    """Return whether a step of a chain treats all channels alike, so that they can be reordered."""
    return type(step) in PLAIN or (type(step) in KINDS and getattr(step, "groups", 1) == 1)


def _chain(layers: list[LayerSpec]) -> list[LayerSpec]:
    """Set the groups of a chain: outputs get the name of their layer, inputs that of the layer before."""
    chained = []
    for index, layer in enumerate(layers):
        after = layer.name if index + 1 < len(layers) else None  # the network's outputs keep their order
        before = layers[index - 1].name if index else None  # and so do its inputs
        tensors = tuple(  # weights (outputs, inputs, ...) and biases (outputs,), hence the slice
            TensorSpec(t.name, t.shape, (after, before, *t.groups[2:])[: len(t.shape)]) for t in layer.tensors
        )
        chained.append(LayerSpec(layer.name, layer.kind, tensors))
    return chained
