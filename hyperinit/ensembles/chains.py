"""The allow-list of networks that can run side by side: plain chains of the same known layers.

A layer is allowed if PyTorch's own code decides its output from attributes and parameters alone, and if these are the
same in all members, up to the values of the parameters. `Watch` remembers the answer and compares everything that
the answer depends on at each call.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.ensembles.plain import HOOKS, original, plain_tensor, undisturbed

Steps = tuple[tuple[nn.Module, ...], ...]  # for each step, the layers of all members
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DEVICES = ("cpu", "cuda")  # tested; other devices may lack channels-last format
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
DIMENSIONS: dict[type[nn.Module], int] = {nn.Conv2d: 4, nn.Linear: 2}  # of the weight
BASE = vars(nn.Module()).keys() - {"training"}  # containers and flags of every module, which hold no setting
# Each kind's attributes. Another one may replace a method, as in `layer.forward = ...`.
KEYS: dict[type[nn.Module], Set[str]] = {
    type(layer): vars(layer).keys()
    for layer in (
        nn.Sequential(), nn.Conv2d(1, 1, 1, device="meta"), nn.Linear(1, 1, device="meta"), nn.Flatten(), nn.Dropout(),
        *(kind() for kind in ACTIVATIONS), nn.MaxPool2d(1), nn.AvgPool2d(1), nn.AdaptiveAvgPool2d(1),
    )
}  # fmt: skip
UNUSED = {"_reversed_padding_repeated_twice"}  # a list, which only other padding than zeros reads
FACTS = operator.attrgetter("__class__", "dtype", "device", "layout", "shape")


@dataclass(frozen=True)
class _Seen:
    """All that an answer was derived from, and the answer: the steps, or None."""

    members: list[nn.Module]
    parts: list[nn.Module]  # chains and layers of all members
    kinds: list[type[nn.Module]]
    states: list[dict[str, Any]]  # copies of the parts' attributes
    chains: list[nn.Module]
    children: list[list[nn.Module | None]]
    hooks: list[Any]  # the parts' dicts of hooks
    hooked: bool  # whether any of them held one
    steps: Steps | None

    def current(self, members: Sequence[nn.Module]) -> bool:
        """Say whether all of it is as it was."""
        try:
            return (
                _identical(members, self.members)
                and _identical(list(map(type, self.parts)), self.kinds)
                and all(map(operator.eq, map(vars, self.parts), self.states))
                and all(map(_identical, map(_children, self.chains), self.children))
                and any(self.hooks) == self.hooked
            )
        except (RuntimeError, TypeError, ValueError):  # an attribute that cannot be compared, such as a tensor
            return False


class Watch:
    """Say at each call whether members can run side by side, and remember the slow part of the answer.

    >>> members = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)) for _ in range(2)]
    >>> watch, x = Watch(), torch.zeros(1, 1, 4, 4)
    >>> len(watch.steps(members, x)), members[0].append(nn.Tanh()) and watch.steps(members, x)
    (3, None)
    """

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def __reduce__(self) -> tuple[type[Watch], tuple[()]]:
        """Copy and pickle without what was seen."""
        return Watch, ()

    def steps(self, members: Sequence[nn.Module], x: object) -> Steps | None:
        """Return the layers of all members for each step, or None if they must run one by one on x."""
        if torch.compiler.is_compiling() or not plain_tensor(x):
            return None
        assert isinstance(x, Tensor)
        if x.ndim != 4 or not len(x) or x.dtype not in DTYPES or x.device.type not in DEVICES:
            return None
        if len(members) < 2 or not undisturbed(x.device):
            return None
        seen = self._seen
        if seen is None or not seen.current(members):
            seen = self._seen = _examined(members)
        if seen is None or seen.steps is None or not original(set(seen.kinds)) or not _weights_fit(seen.steps, x):
            return None
        return seen.steps


def steps_of(members: Sequence[nn.Module]) -> Steps | None:
    """Return the layers of all members for each step if they are plain chains of one structure, else None.

    >>> nets = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)) for _ in range(2)]
    >>> len(steps_of(nets)), steps_of([*nets, nn.Linear(8, 3)])
    (3, None)
    """
    seen = _examined(members)
    return None if seen is None else seen.steps


def _examined(members: Sequence[nn.Module]) -> _Seen | None:
    """Examine members anew. Returns None if a part is unknown, which the next call finds as fast again."""
    parts: list[nn.Module] = []
    layers: list[list[nn.Module]] = []
    for member in members:
        own: list[nn.Module] = []
        if type(member) is not nn.Sequential or not _walk(member, parts, own):
            return None
        layers.append(own)
    chains: list[nn.Module] = [part for part in parts if type(part) is nn.Sequential]
    hooks = [getattr(part, f"_{name}") for part in parts for name in HOOKS]
    steps: Steps | None = None
    if len(members) > 1 and len(set(map(len, layers))) == 1 and not any(hooks):
        together = tuple(zip(*layers, strict=True))
        steps = together if all(map(_same, together)) and _in_order(together) else None
    return _Seen(
        list(members), parts, list(map(type, parts)), [dict(vars(part)) for part in parts], chains,
        list(map(_children, chains)), hooks, any(hooks), steps,
    )  # fmt: skip


def _walk(chain: nn.Module, parts: list[nn.Module], layers: list[nn.Module]) -> bool:
    """Collect a chain's parts and layers in the order in which they run. Returns False at the first unknown one."""
    parts.append(chain)
    if not _known(chain):
        return False
    for part in _children(chain):  # not `children()`, which yields a layer that occurs twice only once
        if type(part) is nn.Sequential:
            if not _walk(part, parts, layers):
                return False
        elif part is None or not _known(part):
            return False
        else:
            parts.append(part)
            layers.append(part)
    return True


def _known(part: nn.Module) -> bool:
    """Say whether a part is of a known kind, has no attribute but that kind's, and only plain values in them."""
    keys = KEYS.get(type(part))
    return (
        keys is not None
        and vars(part).keys() <= keys
        and all(type(table) in (dict, OrderedDict) for table in (part._parameters, part._modules))
        and all(map(_constant, _settings(part).values()))
    )


def _settings(part: nn.Module) -> dict[str, Any]:
    """Return the attributes that decide a layer's output."""
    unused = BASE | UNUSED if type(part) is nn.Dropout else BASE | UNUSED | {"training"}
    return {key: value for key, value in vars(part).items() if key not in unused}


def _constant(value: object) -> bool:
    """Say whether a value cannot change in place."""
    if type(value) is tuple:
        return all(map(_constant, value))
    return value is None or type(value) in (bool, int, float, str)


def _same(layers: tuple[nn.Module, ...]) -> bool:
    """Say whether the members' layers at one step can run as one."""
    kind, settings = type(layers[0]), _settings(layers[0])
    if any(type(layer) is not kind or _settings(layer) != settings for layer in layers[1:]):
        return False
    if kind is nn.Conv2d:
        return settings["padding_mode"] == "zeros" and not settings["transposed"]
    if kind is nn.Flatten:
        return (settings["start_dim"], settings["end_dim"]) == (1, -1)  # all but the batch
    if kind is nn.Dropout:
        return not settings["training"]  # active dropout draws a mask for each member
    if kind is nn.MaxPool2d:
        return not settings["return_indices"]
    return kind is not nn.Sequential


def _in_order(steps: Steps) -> bool:
    """Say whether convolutions come first, then one flattening, then dense layers, as the three shapes of x require.

    The first convolution must be ungrouped: the groups of a wide convolution would split the input between members.
    An in-place layer must follow one that makes a new tensor, or it could write into the input.
    """
    kinds = [type(layers[0]) for layers in steps]
    if kinds.count(nn.Flatten) != 1 or nn.Conv2d not in kinds:
        return False
    cut, first = kinds.index(nn.Flatten), kinds.index(nn.Conv2d)
    fresh = (nn.Conv2d, nn.Linear, *POOLS)
    for place, layers in enumerate(steps):
        if getattr(layers[0], "inplace", False) and (place == 0 or kinds[place - 1] not in fresh):
            return False
    spatial = nn.Linear not in kinds[:cut] and not set(kinds[cut:]) & {nn.Conv2d, *POOLS}
    return spatial and bool(steps[first][0].groups == 1)


def _weights_fit(steps: Steps, x: Tensor) -> bool:
    """Say whether all weights are ordinary parameters of x's dtype and device, of one shape at each step."""
    common = (nn.Parameter, x.dtype, x.device, torch.strided)
    try:
        for layers in steps:
            dimensions = DIMENSIONS.get(type(layers[0]))
            if dimensions is None:
                continue
            weights, biases = taken(layers, "weight"), taken(layers, "bias")
            shape = weights[0].shape
            if len(shape) != dimensions or {*map(FACTS, weights)} != {(*common, shape)}:
                return False
            without = [bias is None for bias in biases]
            if any(without) and not all(without):
                return False
            if not any(without) and {*map(FACTS, biases)} != {(*common, shape[:1])}:
                return False
    except (AttributeError, KeyError, RuntimeError):  # no such parameter, or one without a shape
        return False
    return True


def taken(layers: Iterable[nn.Module], name: str) -> list[Any]:
    """Return one parameter of each layer."""
    return [layer._parameters[name] for layer in layers]


def _children(chain: nn.Module) -> list[nn.Module | None]:
    return [*chain._modules.values()]


def _identical(found: Sequence[object], expected: Sequence[object]) -> bool:
    return len(found) == len(expected) and all(map(operator.is_, found, expected))
