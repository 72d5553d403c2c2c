"""Run several networks of one structure with one call per layer in place of one per layer and member.

The members' convolutions become one wide or grouped convolution in channels-last format, in which PyTorch's pooling on
the CPU is ten times faster. Dense layers become one batched product. A large batch is split into blocks that fit into
the cache.

Letters used for tensor shapes: n members, B inputs, C channels in, K channels out, F features in, G features out.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 64  # inputs at once
ALIKE = (
    nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Identity, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)  # fmt: skip # no weights, every channel on its own: one call can treat the channels of all members


def stackable(members: Sequence[nn.Module]) -> bool:
    """Say whether members can run side by side: plain chains of one structure, without hooks or active dropout.

    >>> nets = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)) for _ in range(2)]
    >>> stackable(nets), stackable([*nets, nn.Linear(8, 3)])
    (True, False)
    """
    if len(members) < 2 or not all(type(member) is nn.Sequential for member in members):
        return False
    chains = [list(_steps(member)) for member in members]
    parts = chain.from_iterable(member.modules() for member in members)
    return (
        len({len(steps) for steps in chains}) == 1
        and all(map(_hookless, parts))  # a stacked layer calls no member's own forward, so hooks would not run
        and all(map(_same, zip(*chains, strict=True)))
        and _in_order(chains[0])
    )


class SideBySide:
    """Remember whether members can run side by side, and check again when their parts, modes or hooks change.

    >>> members = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)) for _ in range(2))
    >>> watch = SideBySide(members)
    >>> watch.allowed(), members[0].append(nn.Tanh()) and watch.allowed()
    (True, False)
    """

    def __init__(self, members: nn.ModuleList) -> None:
        self._members = members
        self._seen: list[object] | None = None
        self._allowed = False

    def allowed(self) -> bool:
        """Say whether `stacked_forward` gives the outputs that the members give one by one."""
        found = [fact for member in self._members for fact in _watched(member)]
        if self._seen is None or len(found) != len(self._seen) or not all(map(operator.is_, found, self._seen)):
            self._seen, self._allowed = found, stackable(list(self._members))
        return self._allowed


def _watched(part: nn.Module) -> Iterator[object]:
    """Yield the facts whose change requires a new check: each part itself, its mode, and whether it has hooks.

    Parts are compared by identity. Their ids would not do: Python reuses the id of a part that was removed.
    """
    yield part
    yield part.training
    yield not _hookless(part)
    for child in part._modules.values():
        if child is not None:
            yield from _watched(child)


def stacked_forward(members: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Run members for which `stackable` holds on inputs (B, C, H, W). Returns their outputs (n, B, classes)."""
    steps = list(zip(*map(_steps, members), strict=True))
    return torch.cat([_run(steps, part, len(members)) for part in x.split(BLOCK)], dim=1)


def _run(steps: Sequence[tuple[nn.Module, ...]], x: Tensor, count: int) -> Tensor:
    """Carry (B, C, H, W), then (B, n * C, H, W) after the first convolution, then (n, B, F) through all layers."""
    apart = False  # whether x holds channels of each member; before the first convolution all share the input's
    for layers in steps:
        layer = layers[0]
        if isinstance(layer, nn.Conv2d):
            weight = torch.cat(_all(layers, "weight")).to(memory_format=torch.channels_last)  # (n * K, C, h, w)
            bias = None if layer.bias is None else torch.cat(_all(layers, "bias"))  # (n * K,)
            # One group per member keeps members apart; the first, wide convolution reads the same input for all.
            groups = layer.groups * (count if apart else 1)
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
            x, apart = x.to(memory_format=torch.channels_last), True  # (B, n * K, H, W)
        elif isinstance(layer, nn.Flatten):
            x = x.reshape(len(x), count, -1).transpose(0, 1)  # (B, n * C, H, W) -> (n, B, F)
        elif isinstance(layer, nn.Linear):
            weight = torch.stack(_all(layers, "weight")).transpose(1, 2)  # (n, F, G)
            bias = None if layer.bias is None else torch.stack(_all(layers, "bias"))[:, None]  # (n, 1, G)
            x = x @ weight if bias is None else torch.baddbmm(bias, x, weight)  # (n, B, G)
        elif not isinstance(layer, nn.Dropout):  # a no-op here: `_same` refuses dropout in training mode
            x = layer(x)
    return x


def _all(layers: Sequence[nn.Module], name: str) -> list[Tensor]:
    return [getattr(layer, name) for layer in layers]


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a chain, those of nested chains included."""
    for part in module.children():
        if type(part) is nn.Sequential:
            yield from _steps(part)
        else:
            yield part


def _hookless(part: nn.Module) -> bool:
    return not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)


def _same(layers: tuple[nn.Module, ...]) -> bool:
    """Say whether the members' layers at one position can run as one."""
    layer = layers[0]
    kind = type(layer)
    facts = [_facts(part) for part in layers]
    if any(found != facts[0] for found in facts):
        return False
    if isinstance(layer, nn.Conv2d):
        return kind is nn.Conv2d and layer.padding_mode == "zeros"  # functional.conv2d pads with zeros only
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)  # all but the batch, as the reshape of `_run` does
    if kind is nn.Dropout:
        return not any(part.training for part in layers)  # active dropout draws a mask for each member
    return kind is nn.Linear or kind in ALIKE


def _facts(part: nn.Module) -> list[object]:
    """Return all that decides a layer's output except the values of its weights."""
    constants = [getattr(part, name, None) for name in getattr(part, "__constants__", ())]
    return [
        type(part), part.extra_repr(), *constants,
        *((value.shape, value.dtype, value.device) for value in part.parameters()),
    ]  # fmt: skip


def _in_order(steps: Sequence[nn.Module]) -> bool:
    """Say whether convolutions come first, then one flattening, then dense layers, as the three shapes of x require.

    The first convolution must be ungrouped: the groups of a wide convolution would split the input between members.
    """
    kinds = [type(step) for step in steps]
    if kinds.count(nn.Flatten) != 1 or nn.Conv2d not in kinds:
        return False
    cut = kinds.index(nn.Flatten)
    spatial = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    first = kinds.index(nn.Conv2d)
    grouped = getattr(steps[first], "groups", 1) != 1
    return not (set(kinds[:cut]) & {nn.Linear} or set(kinds[cut:]) & set(spatial) or grouped)
