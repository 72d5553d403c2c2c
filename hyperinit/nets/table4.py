"""The networks of the paper's Table 4: architectures of about the zoo CNN's size, for grey 28x28 images.

    hyperinit.init_(table4.ResCNN(), "mnist", fit="layerwise")  # five layers as in the CNN; the skips are filled
    hyperinit.init_(table4.FourConv(), "mnist", fit="flat")  # the whole vector, in the order of the parameters

All return logits of 10 classes, and their parameters have PyTorch's default initialisation. The paper does not say how
a weight vector is written into the 4-conv networks. They have 2,464 parameters like the CNN, so `fit="flat"` fills them
in order.

Letters used for tensor shapes: n images.

Source: Schürholt et al. 2022, arXiv:2209.14733, Table 4. Sizes and positions of the skips are from the released code.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class ResCNN(nn.Module):
    """ "3-conv + res-skip": the zoo's CNN with a skip around each convolution; 2,464 + 98 parameters.

    A skip applies a max pooling and a 1x1 convolution to the input of its block, and is added after the activation of
    the block. The skips are registered last, so the first 2,464 parameters are those of the CNN, in its order.

    >>> sum(p.numel() for p in ResCNN().parameters())
    2562
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh()),
            nn.Sequential(nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), nn.Tanh()),
            nn.Sequential(nn.Conv2d(6, 4, 2), nn.Tanh()),
        ])  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.Tanh(), nn.Linear(20, 10))
        pools = [nn.MaxPool2d(5, 2), nn.MaxPool2d(5, 2), nn.MaxPool2d(2, 1)]  # to 12x12, 4x4 and 3x3, as the blocks
        widths = pairwise((1, 8, 6, 4))
        self.skips = nn.ModuleList(
            nn.Sequential(pool, nn.Conv2d(before, after, 1))
            for pool, (before, after) in zip(pools, widths, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 10) of images (n, 1, 28, 28)."""
        for block, skip in zip(self.blocks, self.skips, strict=True):
            x = block(x) + skip(x)
        logits: Tensor = self.head(x)
        return logits


class FourConv(nn.Module):
    """ "4-conv": four convolutions, one more than the zoo's CNN; 2,464 parameters.

    >>> sum(p.numel() for p in FourConv().parameters())
    2464
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(8, 4, 5, bias=False), nn.Tanh())
        self.rest = nn.Sequential(
            nn.Conv2d(4, 6, 4, bias=False), nn.Tanh(),
            nn.Conv2d(6, 4, 3, bias=False), nn.Tanh(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 18), nn.Tanh(), nn.Linear(18, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 10) of images (n, 1, 28, 28)."""
        logits: Tensor = self.head(self.features(self.second(self.stem(x))))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return the last feature maps (n, 4, 3, 3) for those of the second convolution, (n, 4, 8, 8)."""
        maps: Tensor = self.rest(x)
        return maps


class FourConvSkip(FourConv):
    """ "4-conv + identity skip": the second convolution's maps are added to the fourth's; 2,464 parameters.

    The skip drops a border of one pixel and every second row and column. It has no parameters.

    >>> sum(p.numel() for p in FourConvSkip().parameters())
    2464
    """

    def features(self, x: Tensor) -> Tensor:
        """Return the last maps (n, 4, 3, 3) with the skip, for those of the second convolution, (n, 4, 8, 8)."""
        return super().features(x) + x[:, :, 1:-1:2, 1:-1:2]  # pixels 1, 3 and 5 of 8
