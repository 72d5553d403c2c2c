"""Residual networks of basic blocks on small images, with torchvision's parameter names."""

from __future__ import annotations

import re
from itertools import pairwise

from torch import Tensor, nn

from hyperinit.errors import ArgumentError, shown

STAGES = 3
LARGEST = 1 << 24  # of the sizes; torch counts in 64 bits
NAMED = re.compile(r"resnet(\d{1,4})x(\d{1,5})")  # depth and width


class ResNet(nn.Module):
    """A residual network for small images: a 3x3 convolution, three stages of basic blocks, global average pooling.

    The parameters have the names of torchvision's ResNets: `conv1`, `bn1`, `layer1.0.conv1`, ..., `fc`. Unlike those,
    the first convolution keeps the size of the image and no pooling follows it.

    Args:
        channels: input channels.
        classes: outputs.
        blocks: residual blocks per stage, each with two convolutions.
        width: channels of the first stage. Each further stage has twice the channels and half the height and width.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2. Shortcuts that change the shape are projections (option B).
    """

    def __init__(self, channels: int = 3, classes: int = 10, blocks: int = 3, width: int = 16) -> None:
        super().__init__()
        self.sizes = {"channels": channels, "classes": classes, "blocks": blocks, "width": width}
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        widths = [width, *(width * 2**stage for stage in range(STAGES) for _ in range(blocks))]
        parts = [BasicBlock(before, after) for before, after in pairwise(widths)]
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*parts[stage * blocks : (stage + 1) * blocks]) for stage in range(STAGES)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, height, width)."""
        features = self.relu(self.bn1(self.conv1(images)))  # (n, width, height, width)
        features = self.layer3(self.layer2(self.layer1(features)))  # (n, 4 * width, height / 4, width / 4)
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two convolutions with batch norm, and a shortcut that is added before the last ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = after // before  # 2 where the channels double, else 1
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, before, height, width) to (n, after, height / stride, width / stride)."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        added: Tensor = self.relu(inner + (x if self.downsample is None else self.downsample(x)))
        return added


def resnet(depth: int, width: int = 16, classes: int = 10, channels: int = 3) -> ResNet:
    """Return a residual network of a given depth for small images.

    Args:
        depth: layers with weights on the main path, 6 n + 2 for n blocks per stage: 8, 14, 20, 32, 44, 56, ...
        width: channels of the first stage.
        classes: outputs.
        channels: input channels.

    Raises:
        ArgumentError: if depth is not 6 n + 2, or a size is no integer from 1 to 2^24.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.

    >>> sum(p.numel() for p in resnet(14).parameters())
    175258
    """
    sizes = {"depth": depth, "width": width, "classes": classes, "channels": channels}
    if any(type(size) is not int for size in sizes.values()):
        raise ArgumentError(f"depth, width, classes and channels must be integers, got {shown(sizes)}")
    if max(sizes.values()) > LARGEST:
        raise ArgumentError(f"depth, width, classes and channels must be at most {LARGEST:,}, got {shown(sizes)}")
    blocks, rest = divmod(depth - 2, 2 * STAGES)
    if rest or blocks < 1:
        raise ArgumentError(f"depth must be 6 n + 2, such as 8, 14, 20, 32, 44 or 56, got {depth}")
    if min(width, classes, channels) < 1:
        raise ArgumentError(f"width, classes and channels must be at least 1, got {width}, {classes} and {channels}")
    return ResNet(channels, classes, blocks, width)


def resnet20(channels: int = 3, classes: int = 10) -> ResNet:
    """Return ResNet-20 for CIFAR: 0.27 M parameters, 20 layers with weights on the main path.

    >>> sum(p.numel() for p in resnet20().parameters())
    272474
    """
    return resnet(20, 16, classes, channels)


def named(name: str, *, channels: int, classes: int) -> ResNet:
    """Return the residual network with a name such as "resnet14x16", which gives its depth and its width.

    Raises:
        ArgumentError: if the name has another form.

    >>> sum(p.numel() for p in named("resnet8x4", channels=1, classes=10).parameters())
    5142
    """
    found = NAMED.fullmatch(name)
    if not found:
        raise ArgumentError(f"network must be resnet, a depth, x and a width, such as resnet14x16, got {name!r}")
    return resnet(int(found[1]), int(found[2]), classes, channels)
