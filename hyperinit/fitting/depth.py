"""Layers that the source lacks: in a deeper network they begin by passing their input on.

If a module holds all layers of the source and more between them, the others begin so that the module computes what
it would compute without them:

- A residual block adds zero. Its last norm has the weight zero; without a norm, its last layer has.
- A residual block that changes the shape passes on the mean of the pixels that its stride covers, by its layers. Its
  shortcut adds zero. A global average behind it then gives the same result.
- A plain layer behind a ReLU has the identity as its kernel.

Norms between such layers begin as the identity of a channel with mean 0 and variance 1. With batches
(`hyperinit.batches.calibration`), they become the identity of the channel that they see.

Source: zero as the last norm's weight is that of Goyal et al. 2017, arXiv:1706.02677, section 5.1. Identity kernels
are those of Chen, Goodfellow and Shlens 2016 (Net2Net), arXiv:1511.05641, section 2.3.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx, nn

from hyperinit.layout import KINDS

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.modules.batchnorm._BatchNorm,)
RELUS = {"relu", "relu_", "ReLU", "relu6", "ReLU6"}  # applied twice, they do what they do once
KEEPING = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Identity", "dropout", "contiguous"}
ADDS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class Constant:
    """A parameter that gets one value.

    >>> Constant(2.0).decode(torch.zeros(5), (2,))
    (tensor([2., 2.]), None)
    """

    value: float
    silences: ClassVar[bool] = False

    def decode(self, weights: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, None]:
        """Return the parameter's values; of the weight vector only the device and type count."""
        return torch.full(shape, self.value, dtype=torch.float32, device="cpu"), None


@dataclass(frozen=True)
class Passing:
    """A weight with which a layer passes each input channel on to the output channel of the same number.

    Args:
        first: first place of the kernel that counts, by axis; empty for a linear layer.
        size: number of places that count, by axis. The output is the mean of these.
    """

    first: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    silences: ClassVar[bool] = False

    def decode(self, weights: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Return the weight (outputs, inputs, *kernel), and the mask of the outputs that pass an input on.

        >>> Passing((1,), (1,)).decode(torch.zeros(0), (2, 2, 3))[0][1]
        tensor([[0., 0., 0.],
                [0., 1., 0.]])
        """
        values = torch.zeros(shape, dtype=torch.float32, device="cpu")
        places = tuple(slice(at, at + count) for at, count in zip(self.first, self.size, strict=True))
        count = min(shape[:2])
        rows = torch.arange(count, device="cpu")
        part = torch.zeros(count, *shape[2:], dtype=torch.float32, device="cpu")
        part[(slice(None), *places)] = 1 / math.prod(self.size)
        values[rows, rows] = part
        mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
        mask[:count] = True
        return values, None if count == shape[0] else mask


Fixed = dict[str, Constant | Passing]  # by the name of a parameter or running statistic


def passed_on(root: nn.Module, graph: fx.Graph, paired: Collection[str]) -> Fixed:
    """Return the values of those parameters with which layers that the source lacks pass their input on.

    Args:
        root: the module that was traced.
        graph: of its operations.
        paired: names of the layers and norms of the module that have a partner in the source.

    Returns:
        Values by name. Layers that cannot pass their input on are left out, and so are those before the first and
        behind the last layer that has a partner.
    """
    nodes = list(graph.nodes)
    inside = _between(root, nodes, paired)
    found: Fixed = {}
    blocks: set[fx.Node] = set()
    for node in nodes:
        parts = _branches(node)
        if parts is None or not inside.intersection(parts[0] + parts[1]):
            continue
        body, shortcut = sorted(parts, key=lambda chain: len(_layers(root, chain)))[::-1]
        if _any_paired(root, body, paired):
            continue
        blocks.update(body, shortcut)
        if not _layers(root, shortcut):
            found |= _zero(root, body)
        elif not _any_paired(root, shortcut, paired):
            found |= _stage(root, body, shortcut)
    for node in nodes:
        if node in inside and node not in blocks and _unpaired_layer(root, node, paired):
            found |= _plain(root, node, paired)
    return found


def _part(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _layers(root: nn.Module, chain: Collection[fx.Node]) -> list[fx.Node]:
    return [node for node in chain if isinstance(_part(root, node), tuple(KINDS))]


def _unpaired_layer(root: nn.Module, node: fx.Node, paired: Collection[str]) -> bool:
    return isinstance(_part(root, node), tuple(KINDS)) and str(node.target) not in paired


def _any_paired(root: nn.Module, chain: Collection[fx.Node], paired: Collection[str]) -> bool:
    return any(str(node.target) in paired for node in chain if node.op == "call_module")


def _between(root: nn.Module, nodes: list[fx.Node], paired: Collection[str]) -> set[fx.Node]:
    """Return the nodes between the first and the last layer with a partner, in the order of execution."""
    places = [place for place, node in enumerate(nodes) if node.op == "call_module" and str(node.target) in paired]
    return set(nodes[places[0] : places[-1]]) if places else set()


def _branches(node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]] | None:
    """Return both branches that a node adds, each from the fork to the node, or None for another node."""
    added = node.op == "call_function" and node.target in ADDS
    added = added or (node.op == "call_method" and node.target in ("add", "add_"))
    if not added or len(node.args) != 2 or not all(isinstance(arg, fx.Node) for arg in node.args):
        return None
    (left, fork), (right, other) = (_chain(arg) for arg in node.args)  # type: ignore[arg-type]
    return (left, right) if fork is other and (left or right) else None


def _chain(node: fx.Node) -> tuple[list[fx.Node], fx.Node]:
    """Walk back from a node to the first one with several users or inputs; returns the nodes in order, and that one."""
    found: list[fx.Node] = []
    while len(node.users) == 1 and len(node.all_input_nodes) == 1 and node.op != "placeholder":
        found.append(node)
        node = node.all_input_nodes[0]
    return found[::-1], node


def _zero(root: nn.Module, chain: list[fx.Node]) -> Fixed:
    """Let a branch add zero: by its last norm if that has a weight, and else by its last layer."""
    for node in reversed(chain):
        part = _part(root, node)
        if part is not None and _norm_or_layer(root, node) and part._parameters.get("weight") is not None:
            return {
                f"{node.target}.{key}": Constant(0.0) for key, value in part._parameters.items() if value is not None
            }
    return {}


def _stage(root: nn.Module, body: list[fx.Node], shortcut: list[fx.Node]) -> Fixed:
    """Let a block that changes the shape pass on means of pixels, or else the pixels that its shortcut takes."""
    if all(_kind(root, node) in KEEPING | RELUS or _norm_or_layer(root, node) for node in body):
        kernels = [_passing(_part(root, node)) for node in _layers(root, body)]
        if all(kernel is not None for kernel in kernels):
            return _zero(root, shortcut) | _pass(root, body)
    return _zero(root, body) | _pass(root, shortcut)


def _plain(root: nn.Module, node: fx.Node, paired: Collection[str]) -> Fixed:
    """Let a layer between ReLUs pass its input on."""
    before = node.all_input_nodes[0]
    while _kind(root, before) in KEEPING:
        before = before.all_input_nodes[0]
    chain, behind = [node], node
    while len(behind.users) == 1:
        behind = next(iter(behind.users))
        own_norm = isinstance(_part(root, behind), NORMS) and str(behind.target) not in paired
        if _kind(root, behind) not in KEEPING and not own_norm:
            break
        chain.append(behind)
    if _kind(root, before) not in RELUS or _kind(root, behind) not in RELUS:
        return {}
    return _pass(root, chain)


def _pass(root: nn.Module, chain: list[fx.Node]) -> Fixed:
    """Let the layers and norms of a chain pass their input on; nothing if one of its layers cannot."""
    found: Fixed = {}
    for node in chain:
        part = _part(root, node)
        if part is not None and isinstance(part, tuple(KINDS)):
            kernel = _passing(part)
            if kernel is None:
                return {}
            found[f"{node.target}.weight"] = kernel
            if part._parameters.get("bias") is not None:
                found[f"{node.target}.bias"] = Constant(0.0)
        elif isinstance(part, NORMS):
            values = {"weight": math.sqrt(1 + part.eps), "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
            held = {**part._parameters, **part._buffers}
            found |= {f"{node.target}.{key}": Constant(v) for key, v in values.items() if held.get(key) is not None}
    return found


def _passing(part: nn.Module | None) -> Passing | None:
    """Return the weight with which a layer passes its input on, or None if it has fewer outputs or another shape."""
    if isinstance(part, nn.Linear):
        return Passing() if part.out_features >= part.in_features else None
    if not isinstance(part, CONVS) or part.groups != 1 or part.out_channels < part.in_channels:
        return None
    if set(part.dilation) != {1} or isinstance(part.padding, str):
        return None
    padding = tuple(map(int, part.padding))
    if any(kernel != 2 * pad + 1 for kernel, pad in zip(part.kernel_size, padding, strict=True)):
        return None
    # The output at i sees the inputs from i * stride - padding on. Those from i * stride to (i + 1) * stride - 1 count,
    # as far as the kernel reaches.
    return Passing(padding, tuple(min(stride, pad + 1) for stride, pad in zip(part.stride, padding, strict=True)))


def _norm_or_layer(root: nn.Module, node: fx.Node) -> bool:
    return isinstance(_part(root, node), (*NORMS, *KINDS))


def _kind(root: nn.Module, node: fx.Node) -> str:
    """Return the name of a module's class, of a function or of a method."""
    part = _part(root, node)
    if part is not None:
        return type(part).__name__
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
