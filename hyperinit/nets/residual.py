"""Residual networks of basic blocks on small images."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class ResNet(nn.Module):
    """A residual network for small images: a convolution, three stages of residual blocks, and global average pooling.

    Args:
        channels: input channels.
        classes: outputs.
        blocks: residual blocks per stage, each with two convolutions.
        width: channels of the first stage. Each further stage has twice the channels and half the height and width.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2. Shortcuts that change the shape are projections (option B).
    """

    def __init__(self, channels: int = 3, classes: int = 10, blocks: int = 3, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width, *(width * 2**stage for stage in range(3) for _ in range(blocks))]
        self.blocks = nn.Sequential(*(_Residual(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, height, width)."""
        features = self.blocks(self.norm(self.conv(images)).relu())  # (n, 4 * width, height / 4, width / 4)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class _Residual(nn.Module):
    """Two convolutions with batch norm, and a shortcut that is added before the last ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = after // before  # 2 where the channels double, else 1
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
