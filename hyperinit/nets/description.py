"""Descriptions of networks as data, with which an artifact stores and rebuilds its architecture.

A description is a list of `[module name, arguments]`, one for each step of an `nn.Sequential`. A residual network is
described by one step, `["resnet", sizes]`. Only the modules in `MODULES` and residual networks can be built, so a
description cannot run other code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyperinit.errors import LayoutError, shown
from hyperinit.nets.residual import ResNet

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
RESNET = ("resnet", ("channels", "classes", "blocks", "width"))
Architecture = list[list[Any]]
MOST_STEPS = 1024  # of a description
LARGEST = 1 << 30  # number among the arguments of a step
MOST_BLOCKS = 64  # of each stage of a residual network


def describe(module: nn.Module) -> Architecture:
    """Describe an `nn.Sequential` of plain steps, or a `ResNet`, as data from which `build` can rebuild it.

    Raises:
        LayoutError: if it is another module, has a module that `MODULES` does not list, or one with other non-default
            arguments.

    >>> describe(nn.Sequential(nn.Linear(2, 1), nn.Tanh()))
    [['linear', {'in_features': 2, 'out_features': 1, 'bias': True}], ['tanh', {}]]
    """
    if type(module) is ResNet:
        return _describe_resnet(module)
    if type(module) is not nn.Sequential:
        raise LayoutError(f"a network must be an nn.Sequential or ResNet to be described, got {type(module).__name__}")
    names = {kind: name for name, (kind, _) in MODULES.items()}
    steps: Architecture = []
    for step in module:
        if type(step) not in names:
            raise LayoutError(f"modules must be of {', '.join(MODULES)} to be described, got {type(step).__name__}")
        name = names[type(step)]
        arguments = {key: _plain(getattr(step, key)) for key in MODULES[name][1]}
        if isinstance(step, nn.Conv2d | nn.Linear):
            arguments["bias"] = step.bias is not None
        steps.append([name, arguments])
        with torch.device("meta"):  # draws no random numbers
            again = _step(name, arguments)
        if repr(again) != repr(step):  # an argument that is not described, such as groups, has no default value
            raise LayoutError(
                f"{name} must have default values except for {', '.join(arguments) or 'nothing'}, got {step}"
            )
    return steps


def build(architecture: Architecture, *, device: str = "cpu") -> nn.Module:
    """Build the network that `architecture` describes, with uninitialised parameters in float32.

    It draws no random numbers. Load weights before use.

    Raises:
        LayoutError: if the description has an unknown module or argument, an invalid value, or more than 1024 steps.
    """
    if not isinstance(architecture, list | tuple) or len(architecture) > MOST_STEPS:
        raise LayoutError(
            f"not a network description: must be a list of at most {MOST_STEPS}, got {shown(architecture)}"
        )
    residual = len(architecture) == 1 and _is_resnet(architecture[0])
    for step in () if residual else architecture:
        _check_step(step)
    try:
        with torch.device("meta"):
            network = (
                ResNet(**architecture[0][1])
                if residual
                else nn.Sequential(*(_step(name, arguments) for name, arguments in architecture))
            )
    except (TypeError, ValueError, RuntimeError) as error:  # arguments that do not fit each other
        raise LayoutError(f"not a network description: {type(error).__name__}: {error}") from None
    network.to(torch.float32)  # whatever the caller's default dtype is
    if device == "meta":
        return network
    network.to_empty(device=device)
    for buffer in network.buffers():  # counters of norms begin at 0; statistics are loaded with the weights
        buffer.zero_()
    return network


def _describe_resnet(module: ResNet) -> Architecture:
    """Describe a residual network, and refuse one that was changed after it was made."""
    with torch.device("meta"):
        again = ResNet(**module.sizes)
    if repr(again) != repr(module):
        raise LayoutError("a ResNet must have the modules that it was made with to be described, got others")
    return [[RESNET[0], dict(module.sizes)]]


def _is_resnet(step: Any) -> bool:
    """Return whether a step describes a residual network, and raise if its sizes are wrong."""
    if not (isinstance(step, list | tuple) and len(step) == 2 and step[0] == RESNET[0]):
        return False
    sizes = step[1]
    if not isinstance(sizes, dict) or set(sizes) != set(RESNET[1]):
        raise LayoutError(f"not a network description: resnet must have {', '.join(RESNET[1])}, got {shown(sizes)}")
    for key, value in sizes.items():
        most = MOST_BLOCKS if key == "blocks" else LARGEST >> 4  # the last stage has 4 times the width
        if type(value) is not int or not 1 <= value <= most:
            raise LayoutError(
                f"not a network description: {key} of resnet must be an integer from 1 to {most}, got {shown(value)}"
            )
    return True


def _check_step(step: Any) -> None:
    """Raise unless a step is a known module with known arguments of the right types and sizes."""
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
    """Return whether an argument has the type and size that `EXPECTED` states."""
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
