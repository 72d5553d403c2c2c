"""Explained variance (R2) of reconstructions, of whole networks and of each layer."""

from __future__ import annotations

from torch import Tensor

from hyperinit.layout import Layout
from hyperinit_training.train_autoencoder.losses import ReconstructionLoss


def r2(output: Tensor, target: Tensor, std: Tensor | None, mean: Tensor) -> Tensor:
    """Return the explained variance: 1 for a perfect reconstruction, 0 for the mean network, negative if worse.

    Args:
        output: decoded weights, (B, D).
        target: true weights, (B, D).
        std: unit of each weight, (D,), as in `ReconstructionLoss`. None compares in weight units.
        mean: mean network of the training zoo, (D,).

    Returns:
        A scalar without unit. It is not finite if every target equals the mean.

    Raises:
        ArgumentError: if the shapes differ.

    >>> import torch
    >>> target = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    >>> r2(0.5 * target, target, None, torch.ones(2)).item()
    0.5
    """
    loss = ReconstructionLoss(std)
    ratio: Tensor = loss(output, target) / loss(mean.expand_as(target), target)
    return 1 - ratio


def r2_per_layer(output: Tensor, target: Tensor, layout: Layout, mean: Tensor | None = None) -> dict[str, float]:
    """Return the explained variance of each layer by name. Units cancel within a layer.

    Args:
        output: decoded weights, (B, D).
        target: true weights, (B, D).
        layout: layout of the networks.
        mean: mean network of the training zoo, (D,). None takes the mean of `target`.

    Raises:
        ArgumentError: if the shapes differ.

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
