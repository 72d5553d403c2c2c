"""Mean and spread of a zoo's weights, by layer and by tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout


def layer_std(weights: Tensor, layout: Layout, floor: float = 1e-4) -> Tensor:
    """Return the standard deviation of each layer, over its weights and biases in all networks.

    Args:
        weights: the training zoo, not augmented, (N, D) with N >= 2.
        layout: the layers of the network.
        floor: smallest value, in weight units. It keeps a constant layer from dominating the loss.

    Returns:
        Unbiased standard deviations in weight units, (D,). The value of a layer is repeated for each of its weights.

    Raises:
        ArgumentError: if `weights` has another shape or `floor` is not > 0.

    Source: Schürholt et al. 2022, arXiv:2209.14733, equation 2. The floor is from the released code.

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
    """Return the mean of each layer of a zoo (N, D), repeated for each of the layer's weights, (D,).

    Raises:
        ArgumentError: if `weights` has another shape.

    >>> from torch import nn
    >>> layer_mean(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), Layout.of(nn.Linear(1, 1)))
    tensor([1., 1.])
    """
    _check_zoo(weights, layout)
    return spread_by_layer([weights[:, where].mean() for where in layout.layer_slices.values()], layout)


def tensor_spread(weights: Tensor, layout: Layout, floor: float = 1e-4) -> Tensor:
    """Return the root mean square distance of a zoo's networks (N, D) to their mean network, by tensor, (D,).

    The mean is over the networks and over a tensor's weights. The value of a tensor is in weight units, at least
    `floor`, and repeated for each of its weights. Tensors are separate because those of one layer can differ much in
    size, such as the scale and the running variance of a norm.

    Raises:
        ArgumentError: if `weights` has another shape.

    >>> from torch import nn
    >>> tensor_spread(torch.tensor([[0.0, 2.0], [0.0, 4.0]]), Layout.of(nn.Linear(1, 1)))
    tensor([1.0000e-04, 1.0000e+00])
    """
    _check_zoo(weights, layout)
    sizes = [tensor.size for tensor in layout.tensors]
    variances = [part.var(0, correction=0).mean() for part in weights.split(sizes, dim=1)]  # part: (N, size)
    return torch.stack(variances).sqrt().clamp(min=floor).repeat_interleave(torch.tensor(sizes))


def spread_by_layer(values: list[Tensor], layout: Layout) -> Tensor:
    """Repeat one scalar per layer for each of the layer's weights, (D,)."""
    sizes = torch.tensor([layer.size for layer in layout.layers], device=values[0].device)
    return torch.stack(values).repeat_interleave(sizes)


def _check_zoo(weights: Tensor, layout: Layout) -> None:
    if weights.ndim != 2 or weights.shape[1] != layout.size or len(weights) < 2:
        raise ArgumentError(f"weights must have shape (N, {layout.size}) with N >= 2, got {tuple(weights.shape)}")
