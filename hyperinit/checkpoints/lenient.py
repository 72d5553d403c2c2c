"""The layout of any network: its conv, linear and norm layers. Other parameters are left out and not refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from hyperinit.errors import LayoutError, listed
from hyperinit.fitting.match import module_layers, module_norms
from hyperinit.layout import KINDS, Layout
from hyperinit.layout.layers import NORM, PARAMETERS, STATISTICS, LayerSpec, TensorSpec
from hyperinit.layout.layout import PLAIN, GivenLayout
from hyperinit.modules.wrappers import join

AXES = {1: NORM, 2: "linear", 3: "conv1d", 4: "conv2d", 5: "conv3d"}  # of a weight in a state dict
CHANNELS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # norms of each channel alone
EMBEDDINGS = ("emb", "wte", "wpe")  # in names of tables, which have two axes as linear layers have


def layout_of_module(module: nn.Module) -> Layout:
    """Read the layout of a network, in the order in which its parts were registered.

    Layers inside `nn.MultiheadAttention`, packed layers and later names of tied ones are left out.

    Args:
        module: without wrappers and parametrisations, see `hyperinit.modules.wrappers.plain`.

    Raises:
        LayoutError: if it has no conv or linear layer.

    >>> layout = layout_of_module(nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3), nn.LayerNorm(3)))
    >>> [tensor.name for tensor in layout.tensors]
    ['1.weight', '1.bias', '2.weight', '2.bias']
    """
    found = {layer.path: layer for layer in (*module_layers(module), *module_norms(module))}
    layers = []
    for path, part in module.named_modules():
        if (layer := found.get(path)) is None:
            continue
        values = {**part._parameters, **part._buffers}
        shapes = {key: tuple(values[key].shape) for key in (*PARAMETERS, *STATISTICS) if key in layer.names}
        layers.append(_layer(path, layer.kind, shapes))
    return _layout(_chained(module, layers), type(module).__name__)


def _chained(module: nn.Module, layers: list[LayerSpec]) -> list[LayerSpec]:
    """Set the permutation groups of a chain with norms of channels. Layers of other modules get none.

    Outputs get the name of their layer, and inputs and norms that of the layer before.
    """
    steps = list(module) if type(module) is nn.Sequential else [module]
    if not all(type(step) in PLAIN or isinstance(step, CHANNELS) or _is_dense(step) for step in steps):
        return layers
    last = max((index for index, layer in enumerate(layers) if layer.kind != NORM), default=0)
    chained, before = [], None
    for index, layer in enumerate(layers):
        norm = layer.kind == NORM
        after = before if norm else (layer.name if index < last else None)  # the network's outputs keep their order
        axes = (after, before, None, None, None)
        tensors = tuple(replace(tensor, groups=axes[: len(tensor.shape)]) for tensor in layer.tensors)
        chained.append(replace(layer, tensors=tensors))
        before = after
    return chained


def _is_dense(step: nn.Module) -> bool:
    return type(step) in KINDS and getattr(step, "groups", 1) == 1


def layout_of_state(state: Mapping[str, Tensor], name: str) -> Layout:
    """Guess the layers of a network from the names and shapes in its state dict.

    Layers of other kinds may look alike: a table whose name does not tell so counts as a linear layer. Layers whose
    weights are not `weight`, `bias`, `running_mean` and `running_var`, such as recurrent ones, are left out.

    Args:
        state: dense tensors by name.
        name: of the state dict, for messages.

    Raises:
        LayoutError: if it has no conv or linear layer.

    >>> layout_of_state(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict(), "net").layers[1].kind
    'norm'
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for full, value in state.items():
        path, _, key = full.rpartition(".")
        if value.is_floating_point():
            parts.setdefault(path, {})[key] = value
    layers: list[LayerSpec] = []
    outputs = 0  # of the convolution before
    for path, own in parts.items():
        above, _, last = path.rpartition(".")
        attends = last == "out_proj" and "in_proj_weight" in parts.get(above, {})
        if attends or any(word in last for word in EMBEDDINGS):
            continue
        shapes = {key: tuple(own[key].shape) for key in (*PARAMETERS, *STATISTICS) if key in own}
        kind = _kind(shapes)
        if kind.startswith("conv"):
            shape = shapes["weight"]
            kind = f"grouped {kind}" if shape[1] == 1 < outputs else kind
            outputs = shape[0]
        if kind:
            layers.append(_layer(path, kind, shapes))
    return _layout(layers, name)


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the kind of a layer with these tensors, or "" if it is none."""
    shape = shapes.get("weight", shapes.get("running_mean", ()))
    kind = AXES.get(len(shape), "")
    biased = [shapes[key] for key in ("bias", *STATISTICS) if key in shapes]
    fit = all(other == shape[:1] for other in biased)  # else it is a transposed convolution, or a norm of several axes
    if not fit or 0 in shape or (kind != NORM and any(key in shapes for key in STATISTICS)):
        return ""
    return "" if kind == NORM and not biased and shape == (1,) else kind  # the slope of a PReLU


def _layer(path: str, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> LayerSpec:
    tensors = [
        TensorSpec(join(path, key), shape, (None,) * len(shape), key in STATISTICS) for key, shape in shapes.items()
    ]
    return LayerSpec(path, kind, tuple(tensors))


def _layout(layers: list[LayerSpec], name: str) -> Layout:
    if all(layer.kind == NORM for layer in layers):
        kinds = listed(dict.fromkeys(layer.kind for layer in layers)) or "none"
        raise LayoutError(f"{name} must hold a conv or linear layer to be a source, got layers of these kinds: {kinds}")
    return GivenLayout(tuple(layers))


def vector(layout: Layout, state: Mapping[str, Tensor], name: str) -> Tensor:
    """Copy the layers of a network into one float32 vector (D,) on the CPU.

    Args:
        layout: of the network.
        state: holds at least the tensors of the layout, in their shapes.
        name: of the network, for messages.

    Raises:
        LayoutError: if a value is not finite in float32.

    >>> layout = layout_of_module(nn.Linear(1, 1))
    >>> vector(layout, {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, "net")
    tensor([1., 0.])
    """
    parts = [state[tensor.name].detach().to("cpu", torch.float32).reshape(-1) for tensor in layout.tensors]
    for tensor, part in zip(layout.tensors, parts, strict=True):
        if not part.isfinite().all():
            raise LayoutError(f"{name} must hold finite numbers that fit float32, got others in {tensor.name}")
    return torch.cat(parts)
