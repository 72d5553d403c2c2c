"""Losses of the autoencoder: layer-wise normalised reconstruction, contrast of two views, and divergence.

Letters: N networks, B networks in a batch, D weights per network, L latent size, P size of a projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit_training.zoo.statistics import spread_by_layer


@dataclass(frozen=True)
class Losses:
    """The parts of one step's loss.

    `total` = beta * reconstruction + (1 - beta) * contrast (paper, eq. 1) + kl_weight * kl. The divergence `kl` is 0
    unless the autoencoder is variational.
    """

    total: Tensor
    reconstruction: Tensor
    contrast: Tensor
    kl: Tensor


class ReconstructionLoss(nn.Module):
    """Mean squared error of decoded weights, in units of each layer's standard deviation (LWLN).

    Args:
        std: standard deviation of each weight's layer over the zoo, (D,), from `layer_std`. None gives the plain
            squared error, the paper's unnormalised baseline "B_KDE30".
        layout: layout of the networks. Only "layer_mean" needs it.
        reduction: "mean" takes the mean over all weights, as in the paper. "layer_mean" takes the mean of the layers'
            means, so that all layers have the same weight. (The released code sums over layers instead.)

    Raises:
        ArgumentError: if the reduction is unknown, `std` is not (D,) and > 0, or "layer_mean" has no layout.

    Source: Schürholt et al. 2022, arXiv:2209.14733, equation 2.

    >>> loss = ReconstructionLoss(torch.tensor([1.0, 2.0]))
    >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]])).item()
    1.0
    """

    std: Tensor | None
    share: Tensor | None

    def __init__(self, std: Tensor | None, layout: Layout | None = None, reduction: str = "mean") -> None:
        super().__init__()
        if std is not None and (std.ndim != 1 or not (std > 0).all()):
            raise ArgumentError(f"std must have shape (D,) and be > 0, got {tuple(std.shape)}, minimum {std.min():.3g}")
        if reduction not in ("mean", "layer_mean"):
            raise ArgumentError(f"reduction must be mean or layer_mean, got {reduction!r}")
        if reduction == "layer_mean" and layout is None:
            raise ArgumentError("reduction layer_mean needs a layout, got None")
        self.register_buffer("std", std)
        self.register_buffer("share", _layer_shares(layout) if layout and reduction == "layer_mean" else None)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of decoded and true weights, both (B, D): a scalar, without unit if `std` is given.

        Raises:
            ArgumentError: if the shapes differ.
        """
        _check_pair(output, target)
        # LWLN: in units of its layer's spread, a layer of small weights counts as much as one of large weights.
        error = output - target if self.std is None else (output - target) / self.std  # (B, D) / (D,)
        squared: Tensor = error.square() if self.share is None else error.square() * self.share
        return squared.mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the NT-Xent loss (normalised temperature-scaled cross entropy) of two views of a batch.

    Each of the 2B rows must identify the other view of its network among the 2B - 1 other rows, by cosine similarity.
    The loss is computed in float32 even under autocast: similarities reach 1 / temperature, where bfloat16 is too
    coarse.

    Args:
        first: projections of one view, (B, P) with B >= 2.
        second: projections of the other view, in the same order of networks, (B, P).
        temperature: divisor of the similarities, > 0.

    Returns:
        The mean over the 2B rows, a scalar.

    Raises:
        ArgumentError: if the shapes differ, B is below 2 or `temperature` is not > 0.

    Source: Chen et al. 2020 (SimCLR), arXiv:2002.05709, equation 1.

    >>> nt_xent(torch.eye(2), torch.eye(2), temperature=1.0)
    tensor(0.5514)
    """
    _check_pair(first, second)
    if len(first) < 2:
        raise ArgumentError(f"a contrast needs at least 2 networks in a batch, got {len(first)}")
    if not temperature > 0:
        raise ArgumentError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(first.device.type, enabled=False):
        views = functional.normalize(torch.cat([first, second]).float(), dim=1)  # (2B, P)
        similarity = views @ views.T / temperature  # (2B, 2B)
        # A row must not find itself: exp(-inf) = 0 takes the diagonal out of the softmax.
        similarity = similarity.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)
        partner = torch.arange(len(views), device=views.device).roll(len(first))  # (2B,): B ... 2B - 1, 0 ... B - 1
        return functional.cross_entropy(similarity, partner)


class ProjectionHead(nn.Module):
    """Project latents to the space in which NT-Xent compares views. It is used in training only.

    The head has four hidden layers with BatchNorm and ReLU, then a linear layer with BatchNorm. Call it once for each
    view, as the released code does, so that BatchNorm normalises each view by itself.

    Args:
        latent: size L of the latents.
        hidden: width of the hidden layers.
        size: size P of the projection.
        generator: source of the weights (Kaiming normal; biases are 0.01). None uses torch's global generator.

    Source: The released code of Schürholt et al. 2022, arXiv:2209.14733.

    >>> sum(p.numel() for p in ProjectionHead(latent=700).parameters())
    784950
    """

    def __init__(
        self, latent: int, hidden: int = 400, size: int = 50, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise([latent, hidden, hidden, hidden, hidden, size]):
            # Made on the meta device, without values: PyTorch's initialisation would use the global generator.
            linear = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
            nn.init.kaiming_normal_(linear.weight, generator=generator)
            nn.init.constant_(linear.bias, 0.01)
            steps += [linear, nn.BatchNorm1d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*steps[:-1])

    def forward(self, latents: Tensor) -> Tensor:
        """Project latents (B, L) to (B, P)."""
        projected: Tensor = self.layers(latents)
        return projected


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of Gaussians from N(0, 1) per latent coordinate: the mean of KL / L over the batch.

    Args:
        mean: mean of every coordinate, (B, L).
        log_variance: logarithm of the variance of every coordinate, (B, L).

    Source: Kingma and Welling 2014, arXiv:1312.6114, Appendix B.

    >>> kl_divergence(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor(1.)
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2


def combined(reconstruction: Tensor, contrast: Tensor, beta: float) -> Tensor:
    """Return the training loss: beta * reconstruction + (1 - beta) * contrast.

    Args:
        reconstruction: value of `ReconstructionLoss`.
        contrast: value of `nt_xent`.
        beta: weight of the reconstruction, 0 to 1. The released code has gamma = 1 - beta.

    Raises:
        ArgumentError: if `beta` is outside [0, 1].

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 2.

    >>> combined(torch.tensor(1.0), torch.tensor(3.0), beta=0.5)
    tensor(2.)
    """
    if not 0 <= beta <= 1:
        raise ArgumentError(f"beta must be in [0, 1], got {beta}")
    return beta * reconstruction + (1 - beta) * contrast


def _layer_shares(layout: Layout) -> Tensor:
    """Return the factor of every weight, (D,), that turns the mean over all weights into the mean of layer means."""
    return spread_by_layer(
        [torch.tensor(layout.size / layer.size / len(layout.layers)) for layer in layout.layers], layout
    )


def _check_pair(first: Tensor, second: Tensor) -> None:
    """Check that shapes are equal: otherwise broadcasting would give a wrong loss without an error."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ArgumentError(f"both must have the same shape (B, D), got {tuple(first.shape)} and {tuple(second.shape)}")
