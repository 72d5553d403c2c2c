"""Fill: what the parameters get that no decoded weight reaches.

The default draw of a parameter is whatever its own module's `reset_parameters` gives it, so it is PyTorch's default
for PyTorch's modules and the author's for anybody else's. The reset runs on a stand-in on the CPU, never on the module.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.fitting.match import Layer
from hyperinit.fitting.plan import DRAWN, KEPT
from hyperinit.layout import Layout
from hyperinit.modules.write import whole

FILLS = ("default", "keep", "zoo")
RESETS = ("reset_parameters", "_reset_parameters")
LayerStats = Mapping[str, tuple[float | Tensor, float | Tensor]]


def has_default(module: nn.Module) -> bool:
    """Whether a module can draw its own parameters anew: it has a reset that needs no argument.

    >>> has_default(nn.Linear(2, 1)), has_default(nn.Sequential(nn.Linear(2, 1)))
    (True, False)
    """
    return _reset_of(module) is not None


def rest_of(owner: nn.Module, value: Tensor, fill: str, layer: str | None) -> str:
    """Say what the weights of a parameter get that no decoded one reaches.

    Args:
        owner: the module that the parameter belongs to directly.
        value: the parameter.
        fill: one of `FILLS`.
        layer: source layer for fill="zoo", or None if none is of this kind.

    >>> linear = nn.Linear(2, 1)
    >>> rest_of(linear, linear.bias, "default", None), rest_of(linear, linear.bias, "zoo", "3")
    ('default draw', 'normal of 3')
    """
    if fill == "keep" or not value.is_floating_point():
        return KEPT
    if layer is not None:
        return f"normal of {layer}"
    return DRAWN if has_default(owner) else KEPT


def default_draws(module: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Draw the default initialisation of some parameters from torch's global CPU generator.

    Every module that owns a named parameter, or contains one that does, resets itself in the order in which PyTorch
    builds modules: children before parents. A named parameter that no reset writes comes back as it is.

    Args:
        module: is only read, however its resets are written.
        names: parameters as `module.named_parameters()` calls them, and running statistics likewise.

    Returns:
        One float32 CPU tensor per name, in the order of `module.named_parameters()`.

    >>> draws = default_draws(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 3)), ["0.weight", "1.bias"])
    >>> draws["0.weight"], draws["1.bias"].shape
    (tensor([1., 1.]), torch.Size([3]))
    """
    stand_in = _copy(module, {})
    wanted = {name[:end] for name in names for end in _prefixes(name)}
    for path, part in _children_first(stand_in, "", set()):
        reset = _reset_of(part) if path in wanted else None
        if reset is not None:
            reset()
    drawn = chain(stand_in.named_parameters(), stand_in.named_buffers())
    return {name: value.detach() for name, value in drawn if name in names}


def nearest_sources(layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Name the source layer whose statistics fit each parameter of the module: its own, or the nearest pair's.

    Only pairs of the same kind count, and a parameter without one is left out.

    >>> from hyperinit.fitting.match import module_layers
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> nearest_sources(Layout.of(net), module_layers(net), [(1, 0)])["1.bias"]
    '1'
    """
    nearest: dict[str, str] = {}
    for b, layer in enumerate(layers):
        near = sorted((abs(other - b), a) for a, other in pairs if layers[other].kind == layer.kind)
        if near:
            nearest |= dict.fromkeys(layer.names.values(), layout.layers[near[0][1]].name)
    return nearest


def _reset_of(module: nn.Module) -> Callable[[], None] | None:
    for name in RESETS:
        reset: Callable[[], None] | None = getattr(module, name, None)
        if callable(reset) and all(
            argument.default is not argument.empty or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
            for argument in signature(reset).parameters.values()
        ):
            return reset
    return None


def _prefixes(name: str) -> list[int]:
    """Ends of the module paths that lead to a parameter: 0 for the root, then each dot."""
    return [0] + [position for position, letter in enumerate(name) if letter == "."]


def _children_first(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for name, child in module.named_children():
        yield from _children_first(child, f"{path}.{name}" if path else name, seen)
    yield path, module


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    """Copy modules and every tensor that they or their lists hold; share all else. Ties stay ties through `memo`."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module):
        fresh = memo[id(value)] = object.__new__(type(value))
        fresh.__dict__.update({key: _copy(item, memo) for key, item in vars(value).items()})
        return fresh
    if isinstance(value, Tensor):
        return memo.setdefault(id(value), _copy_tensor(value))
    if type(value) in (list, tuple, set):
        return type(value)(_copy(item, memo) for item in value)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _copy(item, memo)) for key, item in value.items())
    return value


def _copy_tensor(value: Tensor) -> Tensor:
    if not isinstance(value, nn.Parameter):
        return torch.empty_like(value, device="cpu") if value.is_meta else value.detach().to("cpu", copy=True)
    dtype = value.dtype if value.is_complex() else torch.float32  # resets cannot draw packed integers
    return nn.Parameter(whole(value.detach()).to("cpu", dtype, copy=True), requires_grad=False)
