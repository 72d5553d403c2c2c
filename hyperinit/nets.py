"""The networks of the zoos, and networks as data: an artifact can describe and rebuild its own architecture.

A description is a list of `[module name, arguments]`, one for each step of an `nn.Sequential`. Only the modules
in `MODULES` can be built, so reading a description runs no code but theirs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError

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


def cnn(channels: int = 1, activation: str = "tanh") -> nn.Sequential:
    """Return the CNN of the zoos: 28x28 images in, 10 classes out, pooling before activation.

    2,464 parameters for one input channel, 2,864 for three.

    Args:
        channels: input channels, 1 or 3.
        activation: "tanh", "gelu", "relu" or "sigmoid".

    Raises:
        ArgumentError: for another activation.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Table 6.

    >>> sum(p.numel() for p in cnn(channels=3).parameters())
    2864
    """
    if activation not in ("tanh", "gelu", "relu", "sigmoid"):
        raise ArgumentError(f"activation must be tanh, gelu, relu or sigmoid, got {activation!r}")
    act = MODULES[activation][0]
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(),
        nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(),
        nn.Conv2d(6, 4, 2), act(), nn.Flatten(),
        nn.Linear(36, 20), act(),
        nn.Linear(20, 10),
    )  # fmt: skip


class ResNet(nn.Module):
    """A residual network for small images: a convolution, three stages of residual blocks, the mean over pixels.

    Args:
        channels: input channels.
        classes: outputs.
        blocks: residual blocks per stage, of two convolutions each.
        width: channels of the first stage; every further one has twice as many, and half the pixels a side.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2; shortcuts that change shape are projections (option B).
    """

    def __init__(self, channels: int = 3, classes: int = 10, blocks: int = 3, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width, *(width * 2**stage for stage in range(3) for _ in range(blocks))]
        self.blocks = nn.Sequential(*(_Residual(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (N, classes) for images (N, channels, height, width)."""
        features = self.blocks(self.norm(self.conv(images)).relu())
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class _Residual(nn.Module):
    """Two convolutions with batch norm, and a shortcut around them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = after // before
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        project = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Identity() if before == after else project

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        added: Tensor = inner + self.shortcut(x)
        return added.relu()


def resnet20(channels: int = 3, classes: int = 10) -> ResNet:
    """Return ResNet-20 for CIFAR: 0.27 M parameters, 20 layers with weights on the main path.

    >>> sum(p.numel() for p in resnet20().parameters())
    272474
    """
    return ResNet(channels, classes)


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
        LayoutError: if the description names another module or argument.
    """
    try:
        with torch.device("meta"):
            network = nn.Sequential(*(_step(name, arguments) for name, arguments in architecture))
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise LayoutError(f"not a network description: {type(error).__name__}: {error}") from None
    return network if device == "meta" else network.to_empty(device=device)


def _step(name: str, arguments: dict[str, Any]) -> nn.Module:
    kind, allowed = MODULES[name]
    unknown = set(arguments) - {*allowed, "bias"}
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(sorted(unknown))}")
    if any(type(value) is int and value < 1 for key, value in arguments.items() if key.startswith(("in_", "out_"))):
        raise ValueError(f"{name} needs at least one input and output, got {arguments}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
