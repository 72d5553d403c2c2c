"""The peer of the autoencoder's training: a step as in the authors' released code.

It uses plain float32 without mixed precision. Views are made one network at a time, each with a Python list of indices
and up to ten tries for a block that fits. The contrastive loss forms all pairs of projections. The code is written from
a description of the released code.

Source: released code of Schürholt et al. 2022, arXiv:2209.14733.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyperinit.autoencoder import Autoencoder
from hyperinit.layout import Layout
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.train_autoencoder.augment import PermutationAugmentation
from hyperinit_training.train_autoencoder.losses import ProjectionHead, ReconstructionLoss
from hyperinit_training.zoo.statistics import layer_mean, layer_std
from hyperinit_training.zoo.zoo import Zoo

TRIES = 10  # for a block that fits
LOW, HIGH = 0.02, 0.33  # length of an erased block, as shares of the vector


class ItemViews:
    """Make two permuted and erased views of each network, one network at a time."""

    def __init__(self, layout: Layout, count: int, seed: int = 0) -> None:
        drawn = PermutationAugmentation(layout, count, torch.Generator().manual_seed(seed))
        self.orders: list[list[int]] = drawn.index.tolist()
        self.random = random.Random(seed)

    def __call__(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of networks (B, D), both (B, D)."""
        pairs = [self.item(row) for row in weights]
        return torch.stack([first for first, _ in pairs]), torch.stack([second for _, second in pairs])

    def item(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of one network (D,)."""
        numbers = list(range(len(self.orders)))  # the released code makes this list for every network
        first, second = self.random.choices(numbers, k=2)
        return self._erased(row[self.orders[first]]), self._erased(row[self.orders[second]])

    def _erased(self, row: Tensor) -> Tensor:
        if self.random.random() >= 0.5:
            return row
        for _ in range(TRIES):
            length = int(self.random.uniform(LOW, HIGH) * len(row))
            start = self.random.randrange(len(row))
            if start + length < len(row):
                row[start : start + length] = 0.0
                break
        return row


class PlainTraining:
    """Take gradient steps on random batches of a zoo; `recipe` gives sizes, batch, beta and rate."""

    def __init__(self, recipe: AutoencoderRecipe, zoo: Zoo) -> None:
        self.recipe, self.train = recipe, zoo.part("train").weights
        std = layer_std(self.train, zoo.layout)
        self.autoencoder = Autoencoder(recipe.config(), zoo.layout, layer_mean(self.train, zoo.layout), std)
        self.head, self.loss = ProjectionHead(recipe.latent), ReconstructionLoss(std)
        self.views = ItemViews(zoo.layout, recipe.permutations)
        parameters: list[nn.Parameter] = [*self.autoencoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(parameters, recipe.rate, weight_decay=recipe.decay)

    def advance(self) -> Tensor:
        """Do one gradient step and return its loss."""
        first, second = self.views(self.train[torch.randint(len(self.train), (self.recipe.batch,))])
        with sdpa_kernel(SDPBackend.MATH):  # the released code has no fused attention
            latents = [self.autoencoder.encode(view) for view in (first, second)]
            decoded = torch.cat([self.autoencoder.decode(latent) for latent in latents])
        reconstruction = self.loss(decoded, torch.cat([first, second]))
        contrast = nt_xent(*(self.head(latent) for latent in latents))
        total = self.recipe.beta * reconstruction + (1 - self.recipe.beta) * contrast
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        loss: Tensor = total.detach()
        return loss


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the contrastive loss of projections (B, P), by broadcasting to (2B, 2B, P)."""
    both = torch.cat([first, second])
    # (2B, 2B): each view with each view
    similarity = functional.cosine_similarity(both[:, None], both[None], dim=2) / temperature
    others = ~torch.eye(len(both), dtype=torch.bool)
    partner = torch.arange(len(both)).roll(len(first))
    positive = similarity[torch.arange(len(both)), partner]
    negative = similarity[others].view(len(both), -1).logsumexp(1)
    loss: Tensor = (negative - positive).mean()
    return loss
