"""A small GAN over latents. It is trained when a hyper-representation is made, and the artifact stores it.

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
BETAS = (0.0, 0.9)  # no momentum, which makes the two networks oscillate; the paper does not state the betas
NOISE = 16  # inputs of the generator
GENERATOR = (128, 256, 512)  # widths of the hidden layers
DISCRIMINATOR = (1024, 512, 256)
SETTLING = 10  # power iterations before training, so that the first spectral norms are close
SEED = 0  # of the training: equal anchors give an equal sampler

Layers = list[tuple[Tensor, Tensor]]  # weight (outputs, inputs) and bias (outputs,) of each linear layer


class LatentGAN:
    """A generator 16-128-256-512-L, trained against a discriminator L-1024-512-256-1 with spectral norm.

    The paper does not state the loss. This is the non-saturating GAN loss, and each step updates both networks from
    gradients at the same weights.

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
        """Train on the latents (N, L). It takes about 0.5 s per anchor on one core and draws no global randomness."""
        self.layers = _train(anchors.z.float(), torch.Generator().manual_seed(SEED))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw latents (count, L)."""
        return _forward(torch.randn(count, NOISE, generator=generator), self.layers)

    @staticmethod
    def shapes(latent: int) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the tensors of `state`, for latents of size L."""
        found: dict[str, tuple[int, ...]] = {}
        for place, (inputs, outputs) in enumerate(_pairs(NOISE, *GENERATOR, latent)):
            found |= {f"{place}.weight": (outputs, inputs), f"{place}.bias": (outputs,)}
        return found

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the trained generator. The discriminator is not kept."""
        named: dict[str, Tensor] = {}
        for place, (weight, bias) in enumerate(self.layers):
            named |= {f"{place}.weight": weight, f"{place}.bias": bias}
        return named

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `state` returned, in place of `fit`."""
        places = range(1 + len(GENERATOR))
        self.layers = [(state[f"{place}.weight"], state[f"{place}.bias"]) for place in places]


def _train(real: Tensor, generator: torch.Generator) -> Layers:
    """Train on latents (N, L) and return the generator's layers."""
    latent = real.shape[1]
    generator_layers = _linear(generator, NOISE, *GENERATOR, latent)
    discriminator = _linear(generator, latent, *DISCRIMINATOR, 1)
    left = [torch.randn(len(bias), generator=generator) for _, bias in discriminator]  # one (outputs,) per layer
    for _ in range(SETTLING):
        _norms(discriminator, left)
    networks = zip((generator_layers, discriminator), RATES, strict=True)
    groups = [{"params": [value for layer in layers for value in layer], "lr": rate} for layers, rate in networks]
    optimizer = torch.optim.Adam(groups, betas=BETAS, fused=True)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(real), generator=generator).split(BATCH):
                noise = torch.randn(len(rows), NOISE, generator=generator)  # (B, 16)
                optimizer.zero_grad()
                # One backward and one step for both: neither network sees the other's update of this batch.
                _losses(real[rows], noise, generator_layers, discriminator, _norms(discriminator, left)).backward()
                optimizer.step()
    return [(weight.detach(), bias.detach()) for weight, bias in generator_layers]


def _losses(
    real: Tensor, noise: Tensor, generator_layers: Layers, discriminator: Layers, norms: list[Tensor]
) -> Tensor:
    """Return the sum of both networks' losses for latents (B, L).

    The gradient of each loss reaches only the weights of its own network, so the sum can be minimised in one step.
    """
    fake = _forward(noise, generator_layers)  # (B, L)
    # The discriminator's loss: `detach` keeps it from the generator.
    real_logits, fake_logits = _forward(torch.cat([real, fake.detach()]), discriminator, norms).split(len(real))
    # softplus(-d) = -log sigmoid(d), and softplus(d) = -log(1 - sigmoid(d))
    discriminator_loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
    # The generator's loss: a detached copy keeps it from the discriminator.
    fixed = [(weight.detach(), bias.detach()) for weight, bias in discriminator]
    logits = _forward(fake, fixed, [norm.detach() for norm in norms])  # (B, 1)
    return discriminator_loss + functional.softplus(-logits).mean()


def _norms(layers: Layers, left: list[Tensor]) -> list[Tensor]:
    """Estimate the largest singular value of each weight by one power iteration, which updates `left` in place.

    `left` holds an estimate of the left singular vector of each layer, (outputs,).
    """
    found = []
    for place, (weight, _) in enumerate(layers):
        with torch.no_grad():  # the singular vectors are constants of the gradient, as in torch's spectral_norm
            right = functional.normalize(left[place] @ weight, dim=0)  # (inputs,)
            left[place] = functional.normalize(weight @ right, dim=0)  # (outputs,)
        found.append(left[place] @ (weight @ right))  # a scalar, differentiable in the weight
    return found


def _forward(values: Tensor, layers: Layers, norms: list[Tensor] | None = None) -> Tensor:
    """Run the layers, with ReLU between them and each weight divided by its norm.

    The division is applied to the activations (B, outputs), which are fewer than the weights (outputs, inputs).
    """
    for place, (weight, bias) in enumerate(layers):
        values = functional.linear(values, weight, bias) if norms is None else values @ weight.T / norms[place] + bias
        values = values.relu() if place < len(layers) - 1 else values
    return values


def _linear(generator: torch.Generator, *sizes: int) -> Layers:
    """Make linear layers with PyTorch's default initialisation, drawn from the given generator."""
    layers = []
    for inputs, outputs in _pairs(*sizes):
        weight, bias = torch.empty(outputs, inputs), torch.empty(outputs)
        for value in (weight, bias):
            value.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator).requires_grad_()
        layers.append((weight, bias))
    return layers


def _pairs(*sizes: int) -> list[tuple[int, int]]:
    return list(pairwise(sizes))
