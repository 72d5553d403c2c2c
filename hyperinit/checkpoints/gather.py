"""Gather networks that a caller gives, as modules, state dicts or checkpoint files, into one source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.checkpoints.entries import why_unusable
from hyperinit.checkpoints.layout import StateLayout, differences
from hyperinit.checkpoints.lenient import layout_of_module, layout_of_state, vector
from hyperinit.checkpoints.networks import Networks
from hyperinit.checkpoints.state_dicts import Taken, take, take_from
from hyperinit.errors import ArgumentError, LayoutError, PlanError, counted, one_line
from hyperinit.generators import settled
from hyperinit.layout import Layout
from hyperinit.layout.layers import NORMS
from hyperinit.modules.copies import detached_copy
from hyperinit.modules.wrappers import plain, unwrapped
from hyperinit.modules.write import whole

Given = nn.Module | Mapping[str, Any] | Path
TRAINED = (nn.modules.dropout._DropoutNd,)  # their settings count in training alone


@dataclass(frozen=True)
class _Network:
    """One network: its name for messages, its tensors by name, and the module without wrappers if it is one."""

    name: str
    tensors: dict[str, Tensor]
    module: nn.Module | None = None


@settled()
@torch.no_grad()
def gather(items: Sequence[Given], names: Sequence[str]) -> Networks:
    """Copy networks into one source. Modules are only read: they keep their device, and nothing of them changes.

    Args:
        items: at least one. All must be networks of one kind.
        names: of each, for messages.

    Raises:
        ArgumentError: if there is none, or the weights of a module cannot be read.
        LayoutError: if a network differs from the first in a layer, has no conv or linear layer, or holds NaN.
        ZooError: if a file or a dict holds no state dict that can be read.

    >>> gather([nn.Linear(2, 1), nn.Linear(2, 1)], ["a", "b"]).weights.shape
    torch.Size([2, 3])
    """
    if not items:
        raise ArgumentError("source must hold at least one network, got an empty list")
    pairs = list(zip(items, names, strict=True))
    views = [_view(item, name) if isinstance(item, nn.Module) else None for item, name in pairs]
    known = next((view for view in views if view is not None), None)
    found = [
        _of_module(view, name) if view is not None else _of_state(item, name, known)  # type: ignore[arg-type]
        for (item, name), view in zip(pairs, views, strict=True)
    ]
    first = found[0]
    layout = layout_of_state(first.tensors, first.name) if known is None else layout_of_module(known)
    for network in found:
        _check(network, first, layout, known)
    weights = torch.stack([vector(layout, network.tensors, network.name) for network in found])
    name = first.name if len(found) == 1 else f"{counted(len(found), 'given network')}"
    inside = {tensor.name for tensor in layout.tensors}
    apart = [
        key
        for key, value in first.tensors.items()
        if key not in inside and not all(torch.equal(value, other.tensors.get(key, value)) for other in found[1:])
    ]
    return Networks(layout, weights, name, None if known is None else _template(known), tuple(apart))


def _view(module: nn.Module, name: str) -> nn.Module:
    """Return a network without wrappers and parametrisations, which shares all tensors with the module."""
    try:
        return plain(unwrapped(module))
    except PlanError as error:
        raise ArgumentError(f"{name} must be a network whose weights can be read: {error}") from None


def _of_module(view: nn.Module, name: str) -> _Network:
    tensors = {}
    held = {**dict(view.named_parameters(remove_duplicate=False)), **dict(view.named_buffers(remove_duplicate=False))}
    for key, value in held.items():
        if value.is_meta:
            raise ArgumentError(f"{name} must hold values, got {one_line(key)} on the meta device; load its weights")
        if kind := why_unusable(value):
            raise ArgumentError(f"{name} must hold dense tensors, got {kind} in {one_line(key)}")
        if value.is_floating_point():
            tensors[key] = whole(value).detach().to("cpu")
    return _Network(name, tensors, view)


def _of_state(item: Mapping[str, Any] | Path, name: str, known: nn.Module | None) -> _Network:
    """Read a state dict. The prefix of a larger module is removed if a network in the same list tells the names."""
    taken: Taken = take(item) if isinstance(item, Path) else take_from(item, name)
    taken = taken.alone() if known is None else taken.fitted(StateLayout.of_module(known), name)
    return _Network(name, {key: value.to("cpu") for key, value in taken.tensors.items() if value.is_floating_point()})


def _check(network: _Network, first: _Network, layout: Layout, known: nn.Module | None) -> None:
    """Refuse a network that lacks a layer, has another one, or computes something else than the first."""
    wanted = {tensor.name: tensor.shape for tensor in layout.tensors}
    own = set() if known is None else {*known.state_dict()}  # tied tensors by all their names
    found = {
        name: tuple(value.shape)
        for name, value in network.tensors.items()
        if name in wanted or (name not in first.tensors and name not in own)
    }
    problems = differences(found, wanted)
    if network.module is not None and known is not None and not problems:
        problems = _other_modules(network.module, known)
    if problems:
        raise LayoutError(f"all networks of source must be of one kind, got {network.name} with {problems}")


def _other_modules(one: nn.Module, other: nn.Module) -> str:
    """Say at which place two networks have other modules, or modules with other settings; "" if at none."""
    if one is other:
        return ""
    parts = dict(other.named_modules(remove_duplicate=False))
    for name, part in one.named_modules(remove_duplicate=False):
        partner = parts.pop(name, None)
        if partner is None:
            return f"a {type(part).__name__} at {one_line(name)}, where others have nothing"
        if type(part) is not type(partner):
            return f"{type(part).__name__} in place of {type(partner).__name__} at {one_line(name or 'the top')}"
        got, wanted = _settings(part), _settings(partner)
        if got != wanted:
            return f"{type(part).__name__}({got}) in place of {type(part).__name__}({wanted}) at {one_line(name)}"
    return f"no {one_line(next(iter(parts)))}" if parts else ""


def _settings(part: nn.Module) -> str:
    """Return the settings of a layer of torch that change its outputs, such as a stride or a slope."""
    if isinstance(part, NORMS):
        return f"eps={getattr(part, 'eps', None)}"  # a momentum counts in training alone
    ours = type(part).__module__.startswith("torch.nn.") and not isinstance(part, TRAINED)
    return one_line(part.extra_repr()) if ours else ""


def _template(view: nn.Module) -> nn.Module | None:
    """Copy a network to the CPU in float32; None if its own code cannot be copied."""
    try:
        copied = detached_copy(view).float()
    except Exception:  # code of the user's may raise anything
        return None
    for ours, theirs in zip(copied.parameters(), view.parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad and ours.is_floating_point())
    return copied
