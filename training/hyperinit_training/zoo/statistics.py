"""Mean and spread of a zoo's weights, by layer and by tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout


def layer_std(weights: Tensor, layout: Layout, floor: float = 1e-4) -> Tensor:
    """Return each layer's standard deviation, over its weights and biases in all networks, at each of its places.

    Args:
        weights: the training zoo, not augmented, (N, D) with N >= 2.
        layout: where the layers lie.
        floor: smallest value, in weight units, so that a constant layer does not decide the loss.

    Returns:
        Unbiased standard deviations, (D,), in weight units.

    Raises:
        ArgumentError: if `weights` has another shape or `floor` is not > 0.

    Source: Schürholt et al. 2022, arXiv:2209.14733, equation 2; the floor is the released code's.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Linear(1, 1))
    >>> layer_std(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), layout)
    tensor([1.1547, 1.1547])
    """
    _check_zoo(weights, layout)
    if not floor > 0:
        raise ArgumentError(f"floor must be > 0, got {floor}")
    return spread_by_layer([weights[:, where].std().clamp(min=floor) for where in layout.layer_slices.values()], layout)


def layer_mean(weights: Tensor, layout: Layout) -> Tensor:
    """Return the mean of each layer of a zoo (N, D), written at each of the layer's places, (D,).

    Raises:
        ArgumentError: if `weights` has another shape.

    >>> from torch import nn
    >>> layer_mean(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), Layout.of(nn.Linear(1, 1)))
    tensor([1., 1.])
    """
    _check_zoo(weights, layout)
    return spread_by_layer([weights[:, where].mean() for where in layout.layer_slices.values()], layout)


def tensor_spread(weights: Tensor, layout: Layout, floor: float = 1e-4) -> Tensor:
    """Return how far a zoo's networks (N, D) lie from their mean, tensor by tensor, at each of its places, (D,).

    The root mean square over the networks and over a tensor's weights, in weight units, at least `floor`. A tensor and
    not a layer is the unit, because a norm's scales and running variances have nothing in common.

    Raises:
        ArgumentError: if `weights` has another shape.

    >>> from torch import nn
    >>> tensor_spread(torch.tensor([[0.0, 2.0], [0.0, 4.0]]), Layout.of(nn.Linear(1, 1)))
    tensor([1.0000e-04, 1.0000e+00])
    """
    _check_zoo(weights, layout)
    sizes = [tensor.size for tensor in layout.tensors]
    variances = [part.var(0, correction=0).mean() for part in weights.split(sizes, dim=1)]
    return torch.stack(variances).sqrt().clamp(min=floor).repeat_interleave(torch.tensor(sizes))


def spread_by_layer(values: list[Tensor], layout: Layout) -> Tensor:
    """Write one scalar per layer at each of the layer's places, (D,)."""
    sizes = torch.tensor([layer.size for layer in layout.layers], device=values[0].device)
    return torch.stack(values).repeat_interleave(sizes)


def _check_zoo(weights: Tensor, layout: Layout) -> None:
    if weights.ndim != 2 or weights.shape[1] != layout.size or len(weights) < 2:
        raise ArgumentError(f"weights must have shape (N, {layout.size}) with N >= 2, got {tuple(weights.shape)}")
