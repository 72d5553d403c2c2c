"""A small GAN over latents, trained once when a hyper-representation is made and stored with it.

Letters: N anchors, L latent size, B networks in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hyperinit.samplers.base import Anchors, SamplerOptions

EPOCHS = 1000
BATCH = 32
RATES = (1e-4, 2e-4)  # of generator and discriminator
BETAS = (0.0, 0.9)  # no momentum: with it the players circle each other; the paper states none
NOISE = 16
GENERATOR = (128, 256, 512)
DISCRIMINATOR = (1024, 512, 256)
SEED = 0  # of the training, so that equal anchors give an equal sampler

Layers = list[tuple[Tensor, Tensor]]  # weight (outputs, inputs) and bias (outputs,) of each linear layer


class LatentGAN:
    """Generator 16-128-256-512-L against a discriminator L-1024-512-256-1 with spectral norm.

    The paper does not state the loss; this is the non-saturating one, and both players move at the same time.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 3.2.4 and Appendix E.2.

    >>> sampler = LatentGAN(SamplerOptions())
    >>> sampler.load({key: torch.zeros(shape) for key, shape in LatentGAN.shapes(4).items()})
    >>> sampler.sample(2, torch.Generator())
    tensor([[0., 0., 0., 0.],
            [0., 0., 0., 0.]])
    """

    space: ClassVar[str] = "latent"

    def __init__(self, options: SamplerOptions) -> None:
        pass

    def fit(self, anchors: Anchors) -> None:
        """Train on the latents (N, L), some 0.5 s of one core for each anchor; the global generator is left alone."""
        self.layers = _train(anchors.z.float(), torch.Generator().manual_seed(SEED))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        return _forward(torch.randn(count, NOISE, generator=generator), self.layers)

    @staticmethod
    def shapes(latent: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors of `state`, for latents of size L."""
        found: dict[str, tuple[int, ...]] = {}
        for place, (inputs, outputs) in enumerate(_pairs(NOISE, *GENERATOR, latent)):
            found |= {f"{place}.weight": (outputs, inputs), f"{place}.bias": (outputs,)}
        return found

    def state(self) -> dict[str, Tensor]:
        """Return what an artifact keeps: the trained generator."""
        named: dict[str, Tensor] = {}
        for place, (weight, bias) in enumerate(self.layers):
            named |= {f"{place}.weight": weight, f"{place}.bias": bias}
        return named

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned, instead of `fit`."""
        places = range(1 + len(GENERATOR))
        self.layers = [(state[f"{place}.weight"], state[f"{place}.bias"]) for place in places]


def _train(real: Tensor, generator: torch.Generator) -> Layers:
    """Train on latents (N, L) and return the generator's layers."""
    latent = real.shape[1]
    forger = _linear(generator, NOISE, *GENERATOR, latent)
    judge = _linear(generator, latent, *DISCRIMINATOR, 1)
    left = [torch.randn(len(bias), generator=generator) for _, bias in judge]
    for _ in range(10):  # let the power iterations of the spectral norms settle
        _norms(judge, left)
    players = zip((forger, judge), RATES, strict=True)
    groups = [{"params": [value for layer in layers for value in layer], "lr": rate} for layers, rate in players]
    optimizer = torch.optim.Adam(groups, betas=BETAS, fused=True)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(real), generator=generator).split(BATCH):
                noise = torch.randn(len(rows), NOISE, generator=generator)
                optimizer.zero_grad()
                _losses(real[rows], noise, forger, judge, _norms(judge, left)).backward()
                optimizer.step()
    return [(weight.detach(), bias.detach()) for weight, bias in forger]


def _losses(real: Tensor, noise: Tensor, forger: Layers, judge: Layers, norms: list[Tensor]) -> Tensor:
    """Sum of both players' non-saturating losses for latents (B, L); neither reaches the other's weights."""
    fake = _forward(noise, forger)
    ours, theirs = _forward(torch.cat([real, fake.detach()]), judge, norms).split(len(real))
    caught = functional.softplus(-ours).mean() + functional.softplus(theirs).mean()  # softplus(-d) = -log sigmoid(d)
    frozen = [(weight.detach(), bias.detach()) for weight, bias in judge]
    return caught + functional.softplus(-_forward(fake, frozen, [norm.detach() for norm in norms])).mean()


def _norms(layers: Layers, left: list[Tensor]) -> list[Tensor]:
    """Return each weight's largest singular value; `left` holds the left singular vectors and is improved by a step."""
    found = []
    for place, (weight, _) in enumerate(layers):
        with torch.no_grad():
            right = functional.normalize(left[place] @ weight, dim=0)
            left[place] = functional.normalize(weight @ right, dim=0)
        found.append(left[place] @ (weight @ right))
    return found


def _forward(values: Tensor, layers: Layers, norms: list[Tensor] | None = None) -> Tensor:
    """Run the layers, each weight divided by its norm: on the few activations, not on the many weights."""
    for place, (weight, bias) in enumerate(layers):
        values = functional.linear(values, weight, bias) if norms is None else values @ weight.T / norms[place] + bias
        values = values.relu() if place < len(layers) - 1 else values
    return values


def _linear(generator: torch.Generator, *sizes: int) -> Layers:
    """Linear layers with PyTorch's default initialisation, drawn from the given generator."""
    layers = []
    for inputs, outputs in _pairs(*sizes):
        weight, bias = torch.empty(outputs, inputs), torch.empty(outputs)
        for value in (weight, bias):
            value.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator).requires_grad_()
        layers.append((weight, bias))
    return layers


def _pairs(*sizes: int) -> list[tuple[int, int]]:
    return list(pairwise(sizes))
