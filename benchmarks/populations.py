"""Populations of the zoo's CNN on the compiled kernels: trained side by side in threads, evaluated, and as ensembles.

Letters: N networks, D weights per network, I images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import summary
from hyperinit_training.images.dataset import Images
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.blocks import ImageSet, Labels
from hyperinit_training.train_zoo.compiled_blocks import accuracy
from hyperinit_training.train_zoo.schedules import schedule

Rows = dict[str, dict[str, Any]]  # epoch -> summary of the population's test accuracies
CURVE = (*range(1, 11), *range(15, 51, 5))  # epochs at which figures show a population


def shown(*ends: int) -> tuple[int, ...]:
    """Epochs to keep of a training that ends at the last of `ends`, the others among them.

    >>> shown(2, 12)
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
    """
    return tuple(sorted({epoch for epoch in CURVE if epoch < max(ends)} | set(ends)))


@dataclass(frozen=True)
class Task:
    """What a population is trained on: normalised images and the zoo's hyperparameters (the target's, in transfer)."""

    data: ImageSet
    recipe: ZooRecipe

    @classmethod
    def of(cls, images: Images, recipe: ZooRecipe) -> Task:
        """Normalise the images."""
        parts = (images.normalised(part) for part in ("train", "val", "test"))
        return cls(ImageSet(*parts), recipe)

    def test(self, weights: Tensor) -> list[float]:
        """Test accuracies of networks (N, D), 0 to 1."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda row: accuracy(row[None], self.data.test, self.recipe.activation), weights.numpy())
            return [float(value[0]) for value in found]

    def tuned(self, starts: Tensor, epochs: Sequence[int], seed: int = 0) -> dict[int, Tensor]:
        """Train from `starts` (N, D) at the recipe's rate; networks (N, D) after each of `epochs` > 0."""
        plan = replace(self.recipe, epochs=max(epochs), snapshots=tuple(epochs), models=1, vary={})

        def one(index: int) -> Any:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
            order = schedule(plan, len(self.data.train[1]), generator)
            return compiled_cnn.train(starts[index].numpy(), *self.data.train, order)[0]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = np.stack(list(pool.map(one, range(len(starts)))))  # (N, epochs, D)
        return {epoch: torch.from_numpy(found[:, place]) for place, epoch in enumerate(epochs)}

    def progress(self, starts: Tensor, epochs: Sequence[int], seed: int = 0) -> Rows:
        """Test accuracies of the population before training and after each of `epochs`."""
        later = self.tuned(starts, [epoch for epoch in epochs if epoch], seed)
        return {str(epoch): summary(self.test(weights)) for epoch, weights in {0: starts, **later}.items()}

    def probabilities(self, weights: Tensor) -> Tensor:
        """Class probabilities (N, I, 10) of networks (N, D) on the test images."""

        def one(row: Any) -> Any:
            return compiled_cnn.predict(row[None], self.data.test[0], activation=self.recipe.activation)[0]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.from_numpy(np.stack(list(pool.map(one, weights.numpy())))).softmax(2)

    def ensembles(self, probabilities: Tensor, size: int, count: int, generator: torch.Generator) -> list[float]:
        """Test accuracies of `count` ensembles of `size` of the networks, whose probabilities are averaged."""
        return [
            self.right(probabilities[torch.randperm(len(probabilities), generator=generator)[:size]].mean(0))
            for _ in range(count)
        ]

    def right(self, probabilities: Tensor) -> float:
        """Share of the test images (I, 10) that are classified rightly."""
        labels: Labels = self.data.test[1]
        return (probabilities.argmax(1) == torch.from_numpy(labels)).double().mean().item()
