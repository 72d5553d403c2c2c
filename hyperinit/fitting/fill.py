"""Fill: the values of those weights that no decoded weight reaches.

The default draw of a parameter is the one of its own module's `reset_parameters`: PyTorch's default for PyTorch's
modules, the author's for other modules. The reset runs on a copy of the module on the CPU, never on the module itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from inspect import Parameter, signature
from itertools import chain

from torch import Tensor, nn

from hyperinit.fitting.pairing import Layer
from hyperinit.fitting.plan import DRAWN, KEPT, Rest
from hyperinit.layout import Layout
from hyperinit.layout.layers import NORM, fits
from hyperinit.modules.copies import detached_copy
from hyperinit.modules.state import unchanged

LEAK = (
    "reset_parameters must write through self, so that default draws can run it on a copy of the module; got one that "
    "changes the module itself, which was restored. Rewrite that reset, or pass fill='keep' for no default draws"
)
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
    if fill == "keep" or not fits(owner) or not value.is_floating_point():  # a packed weight must not be drawn
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
    copy = detached_copy(module)
    wanted = {name[:end] for name in names for end in _prefixes(name)}
    found = [(part, _reset_of(part)) for path, part in _children_first(copy, "", set()) if path in wanted]
    resets = [(part, reset) for part, reset in found if reset is not None]
    # code of the user's may know ways to the module itself, such as a global variable
    ours = all(_is_torchs(type(part)) and _is_torchs(reset) for part, reset in resets)
    with nullcontext() if ours else unchanged(module, LEAK):
        for _, reset in resets:
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
        pairs: (index in the source's layers, index in `layers`), see `hyperinit.fitting.pairing.pair`.

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
        if callable(reset) and _needs_nothing(reset):
            return reset
    return None


def _needs_nothing(function: Callable[..., object]) -> bool:
    """Return whether a function can be called without arguments. Compiled code may not tell; it does not count."""
    try:
        arguments = signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return all(argument.default is not argument.empty or argument.kind in optional for argument in arguments)


def _is_torchs(code: object) -> bool:
    return str(getattr(code, "__module__", "")).partition(".")[0] == "torch"


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
