"""The share of variance that a reconstruction explains."""

from __future__ import annotations

from torch import Tensor

from hyperinit.layout import Layout
from hyperinit_training.train_autoencoder.losses import ReconstructionLoss


def r2(output: Tensor, target: Tensor, std: Tensor | None, mean: Tensor) -> Tensor:
    """Explained variance: 1 is perfect, 0 as good as always answering the training zoo's mean, below 0 worse.

    Args:
        output: decoded weights, (B, D).
        target: true weights, (B, D).
        std: unit of each weight, (D,), as in `ReconstructionLoss`; None counts all weights as they are.
        mean: mean network of the training zoo, (D,).

    Returns:
        A scalar; not finite if every target is the mean.

    >>> import torch
    >>> target = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    >>> r2(0.5 * target, target, None, torch.ones(2)).item()
    0.5
    """
    loss = ReconstructionLoss(std)
    ratio: Tensor = loss(output, target) / loss(mean.expand_as(target), target)
    return 1 - ratio


def r2_per_layer(output: Tensor, target: Tensor, layout: Layout, mean: Tensor | None = None) -> dict[str, float]:
    """Explained variance of each layer by name; units cancel within a layer.

    Args:
        output: decoded weights, (B, D).
        target: true weights, (B, D).
        layout: where the layers lie.
        mean: mean network of the training zoo, (D,). Default: the mean of `target`.

    >>> import torch
    >>> target = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    >>> from torch import nn
    >>> r2_per_layer(0.5 * target, target, Layout.of(nn.Sequential(nn.Linear(1, 1))))
    {'0': 0.5}
    """
    centre = target.mean(0) if mean is None else mean
    return {
        name: r2(output[:, where], target[:, where], None, centre[where]).item()
        for name, where in layout.layer_slices.items()
    }
