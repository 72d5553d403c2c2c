"""Fill: the values of those weights that no decoded weight reaches.

The default draw of a parameter is the one of its own module's `reset_parameters`: PyTorch's default for PyTorch's
modules, the author's for other modules. The reset runs on a copy of the module on the CPU, never on the module itself.
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
from hyperinit.fitting.plan import DRAWN, KEPT, Rest
from hyperinit.layout import Layout
from hyperinit.layout.layers import NORM
from hyperinit.modules.write import whole

RESETS = ("reset_parameters", "_reset_parameters")
LayerStats = Mapping[str, tuple[float | Tensor, float | Tensor]]


def has_default(module: nn.Module) -> bool:
    """Return whether a module can draw new values for its own parameters: whether it has a reset without arguments.

    >>> has_default(nn.Linear(2, 1)), has_default(nn.Sequential(nn.Linear(2, 1)))
    (True, False)
    """
    return _reset_of(module) is not None


def rest_of(owner: nn.Module, value: Tensor, fill: str, layer: str | None) -> Rest:
    """Return what those weights of a parameter get that no decoded weight reaches.

    Args:
        owner: the module that the parameter belongs to directly.
        value: the parameter.
        fill: one of `hyperinit.fitting.FILLS`.
        layer: source layer for fill="zoo"; None if the source has no layer of this kind.

    >>> linear = nn.Linear(2, 1)
    >>> rest_of(linear, linear.bias, "default", None), rest_of(linear, linear.bias, "zoo", "3")
    (Rest(kind='default', layer=None), Rest(kind='zoo', layer='3'))
    """
    if fill == "keep" or not value.is_floating_point():
        return KEPT
    if layer is not None:
        return Rest("zoo", layer)
    return DRAWN if has_default(owner) else KEPT


def default_draws(module: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Draw the default initialisation of some parameters from torch's global CPU generator.

    A copy is made of the module. In it, each module that owns a named parameter, or contains a module that does, is
    reset in the order in which PyTorch builds modules: children before parents. A named parameter that no reset
    writes is returned with its present values.

    Args:
        module: only read; a reset that writes into other parts of it writes into the copy.
        names: of parameters, as `module.named_parameters()` gives them, and of running statistics.

    Returns:
        One float32 CPU tensor per name, in the order of `module.named_parameters()`.

    >>> draws = default_draws(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 3)), ["0.weight", "1.bias"])
    >>> draws["0.weight"], draws["1.bias"].shape
    (tensor([1., 1.]), torch.Size([3]))
    """
    copy = _copy(module, {})
    wanted = {name[:end] for name in names for end in _prefixes(name)}
    for path, part in _children_first(copy, "", set()):
        reset = _reset_of(part) if path in wanted else None
        if reset is not None:
            reset()
    drawn = chain(copy.named_parameters(), copy.named_buffers())
    return {name: value.detach() for name, value in drawn if name in names}


def nearest_sources(layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Name the source layer whose mean and standard deviation each parameter of the module takes.

    A paired layer takes those of its partner. Another layer takes those of the partner of the nearest paired layer of
    the same kind, counted in layers of the module; of two equally near ones, the one that comes first in the source.
    A parameter is not in the result if its layer has no such neighbour.

    Args:
        layout: of the source.
        layers: of the module.
        pairs: (index in the source's layers, index in `layers`), see `hyperinit.fitting.match.align`.

    >>> from hyperinit.fitting.match import module_layers
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> nearest_sources(Layout.of(net), module_layers(net), [(1, 0)])["1.bias"]
    '1'
    """
    sources = [layer for layer in layout.layers if layer.kind != NORM]  # the layers that `pairs` counts
    nearest: dict[str, str] = {}
    for b, layer in enumerate(layers):
        # (distance, place in the source); a pair's own distance is 0, so its partner always comes first
        near = sorted((abs(other - b), a) for a, other in pairs if layers[other].kind == layer.kind)
        if near:
            nearest |= dict.fromkeys(layer.names.values(), sources[near[0][1]].name)
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
    """Return where the paths of the modules around a parameter end in its name: 0 for the root, then each dot."""
    return [0] + [position for position, letter in enumerate(name) if letter == "."]


def _children_first(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for name, child in module.named_children():
        yield from _children_first(child, f"{path}.{name}" if path else name, seen)
    yield path, module


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    """Copy modules and all tensors in them, in their lists and dictionaries too; share every other object.

    `copy.deepcopy` would also copy objects that cannot or must not be copied, such as process groups. `memo` keeps
    ties: an object that is found twice is copied once.
    """
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
    dtype = value.dtype if value.is_complex() else torch.float32  # no reset can draw packed integers
    return nn.Parameter(whole(value.detach()).to("cpu", dtype, copy=True), requires_grad=False)
