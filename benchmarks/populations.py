"""Train, evaluate and ensemble populations of the zoo's CNN with the compiled kernels, one network per thread.

Letters: N networks, D weights per network, I images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.record import Summary, summary
from hyperinit_training.images.dataset import Images
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.blocks import ImageSet, Labels
from hyperinit_training.train_zoo.compiled_blocks import accuracy
from hyperinit_training.train_zoo.schedules import schedule

Progress = dict[str, Summary]  # epoch -> the population's test accuracies
CURVE = (*range(1, 11), *range(15, 51, 5))  # epochs at which figures show a population


def shown(*ends: int) -> tuple[int, ...]:
    """Return the epochs of `CURVE` before the last of `ends`, and all of `ends`.

    >>> shown(2, 12)
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
    """
    return tuple(sorted({epoch for epoch in CURVE if epoch < max(ends)} | set(ends)))


def tensors(images: Images, part: str) -> tuple[Tensor, Tensor]:
    """Return the normalised images (I, C, 28, 28) and the labels (I,) of a part as tensors."""
    x, y = images.normalised(part)
    return torch.from_numpy(x), torch.from_numpy(y)


@dataclass(frozen=True)
class Task:
    """The normalised images and the hyperparameters that a population is trained with; in transfer, the target's."""

    data: ImageSet
    recipe: ZooRecipe

    @classmethod
    def of(cls, images: Images, recipe: ZooRecipe) -> Task:
        """Normalise the images of all three parts."""
        parts = (images.normalised(part) for part in ("train", "val", "test"))
        return cls(ImageSet(*parts), recipe)

    def test(self, weights: Tensor) -> list[float]:
        """Return the test accuracies of networks (N, D), 0 to 1."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda row: accuracy(row[None], self.data.test, self.recipe.activation), weights.numpy())
            return [float(value[0]) for value in found]

    def tuned(self, starts: Tensor, epochs: Sequence[int], seed: int = 0) -> dict[int, Tensor]:
        """Train from `starts` (N, D) by the recipe; return the networks (N, D) after each of `epochs` > 0."""
        plan = replace(self.recipe, epochs=max(epochs), snapshots=tuple(epochs), models=1, vary={})

        def one(index: int) -> NDArray[np.float32]:  # (epochs, D)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
            order = schedule(plan, len(self.data.train[1]), generator)
            return compiled_cnn.train(starts[index].numpy(), *self.data.train, order)[0]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = np.stack(list(pool.map(one, range(len(starts)))))  # (N, epochs, D)
        return {epoch: torch.from_numpy(found[:, place]) for place, epoch in enumerate(epochs)}

    def progress(self, starts: Tensor, epochs: Sequence[int], seed: int = 0) -> Progress:
        """Return the population's test accuracies before training and after each of `epochs`."""
        later = self.tuned(starts, [epoch for epoch in epochs if epoch], seed)
        return {str(epoch): summary(self.test(weights)) for epoch, weights in {0: starts, **later}.items()}

    def probabilities(self, weights: Tensor) -> Tensor:
        """Return the class probabilities (N, I, 10) of networks (N, D) on the test images."""

        def one(row: NDArray[np.float32]) -> NDArray[np.float32]:  # (D,) -> (I, 10)
            logits: NDArray[np.float32] = compiled_cnn.predict(
                row[None], self.data.test[0], activation=self.recipe.activation
            )[0]
            return logits

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.from_numpy(np.stack(list(pool.map(one, weights.numpy())))).softmax(2)

    def ensembles(self, probabilities: Tensor, size: int, count: int, generator: torch.Generator) -> list[float]:
        """Return the test accuracies of `count` random ensembles of `size` networks; probabilities are averaged."""
        return [
            self.right(probabilities[torch.randperm(len(probabilities), generator=generator)[:size]].mean(0))
            for _ in range(count)
        ]

    def right(self, probabilities: Tensor) -> float:
        """Return the share of test images that class probabilities (I, 10) classify correctly."""
        labels: Labels = self.data.test[1]
        return (probabilities.argmax(1) == torch.from_numpy(labels)).double().mean().item()
