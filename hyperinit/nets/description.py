"""The networks of the zoos, and networks as data: an artifact can describe and rebuild its own architecture.

A description is a list of `[module name, arguments]`, one for each step of an `nn.Sequential`. Only the modules
in `MODULES` can be built, so reading a description runs no code but theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyperinit.errors import LayoutError, shown

MODULES: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "conv2d": (nn.Conv2d, ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
    "linear": (nn.Linear, ("in_features", "out_features")),
    "maxpool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding")),
    "flatten": (nn.Flatten, ()),
    "dropout": (nn.Dropout, ("p",)),
    "tanh": (nn.Tanh, ()),
    "relu": (nn.ReLU, ()),
    "gelu": (nn.GELU, ()),
    "sigmoid": (nn.Sigmoid, ()),
}
Architecture = list[list[Any]]
MOST_STEPS = 1024  # of a network that is built from data
LARGEST = 1 << 30  # number in its arguments


def describe(module: nn.Sequential) -> Architecture:
    """Write an `nn.Sequential` as data, so that `build` can make it again.

    Raises:
        LayoutError: if it holds a module that `MODULES` does not list.

    >>> describe(nn.Sequential(nn.Linear(2, 1), nn.Tanh()))
    [['linear', {'in_features': 2, 'out_features': 1, 'bias': True}], ['tanh', {}]]
    """
    names = {kind: name for name, (kind, _) in MODULES.items()}
    steps: Architecture = []
    for step in module:
        if type(step) not in names:
            raise LayoutError(f"a described network may hold {', '.join(MODULES)}, got {type(step).__name__}")
        name = names[type(step)]
        arguments = {key: _plain(getattr(step, key)) for key in MODULES[name][1]}
        if isinstance(step, nn.Conv2d | nn.Linear):
            arguments["bias"] = step.bias is not None
        steps.append([name, arguments])
        with torch.device("meta"):  # draws no random number
            again = _step(name, arguments)
        if repr(again) != repr(step):
            raise LayoutError(
                f"a description holds {', '.join(arguments) or 'no arguments'} of {name} only, got {step}"
            )
    return steps


def build(architecture: Architecture, *, device: str = "cpu") -> nn.Sequential:
    """Make the network that `architecture` describes, with uninitialised parameters.

    No random number is drawn: load weights before use.

    Raises:
        LayoutError: if the description names another module or argument, gives one a value that it may not have, or
            has more than 1024 steps.
    """
    if not isinstance(architecture, list | tuple) or len(architecture) > MOST_STEPS:
        raise LayoutError(
            f"not a network description: must be a list of at most {MOST_STEPS}, got {shown(architecture)}"
        )
    for step in architecture:
        _check_step(step)
    try:
        with torch.device("meta"):
            network = nn.Sequential(*(_step(name, arguments) for name, arguments in architecture))
    except (TypeError, ValueError, RuntimeError) as error:  # torch's own word on arguments that do not go together
        raise LayoutError(f"not a network description: {type(error).__name__}: {error}") from None
    return network if device == "meta" else network.to_empty(device=device)


def _check_step(step: Any) -> None:
    """Refuse a step that is no known module with known arguments of the right types and sizes."""
    whole = isinstance(step, list | tuple) and len(step) == 2 and isinstance(step[1], dict)
    if not whole or not isinstance(step[0], str) or step[0] not in MODULES:
        raise LayoutError(
            f"not a network description: a step must be one of {', '.join(MODULES)} with its arguments, "
            f"got {shown(step)}"
        )
    name, arguments = step
    allowed = {*MODULES[name][1], *(["bias"] if name in ("conv2d", "linear") else [])}
    for key, value in arguments.items():
        if key not in allowed:
            raise LayoutError(f"not a network description: {name} takes no {shown(key)}")
        if not _fits(name, key, value):
            raise LayoutError(f"not a network description: {key} of {name} must be {EXPECTED[key]}, got {shown(value)}")


EXPECTED = {
    "in_channels": "a positive integer", "out_channels": "a positive integer",
    "in_features": "a positive integer", "out_features": "a positive integer",
    "kernel_size": "one or two positive integers", "stride": "one or two positive integers",
    "padding": "one or two integers of at least 0, 'valid' or 'same'",
    "p": "a number in [0, 1]", "bias": "true or false",
}  # fmt: skip


def _fits(name: str, key: str, value: Any) -> bool:
    """Say whether an argument has the type and size that `EXPECTED` states."""
    if key == "bias":
        return type(value) is bool
    if key == "p":
        return type(value) in (int, float) and 0 <= value <= 1
    if isinstance(value, str) and (name, key) == ("conv2d", "padding"):
        return value in ("valid", "same")
    least = 0 if key == "padding" else 1
    pair = isinstance(value, list | tuple) and len(value) == 2 and key in ("kernel_size", "stride", "padding")
    return all(type(number) is int and least <= number <= LARGEST for number in (value if pair else [value]))


def _step(name: str, arguments: dict[str, Any]) -> nn.Module:
    kind = MODULES[name][0]
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
