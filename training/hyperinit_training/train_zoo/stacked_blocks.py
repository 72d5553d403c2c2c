"""The engine "torch": trains the blocks of a zoo of any network with PyTorch, many networks side by side.

Letters: N networks, D weights of each, S snapshots of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit_training.machine.run_files import write_tensors
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import stacked
from hyperinit_training.train_zoo.blocks import Blocks, Job, Labels, Trained, Trainer, family_of, packed
from hyperinit_training.train_zoo.schedules import Floats, generator_of, start
from hyperinit_training.train_zoo.stacked import Data, Network

AT_ONCE = 256  # networks side by side if a job gives no number of workers


def trainer(job: Job) -> Trainer:
    """Return the function that trains the blocks of a job and writes their files, many networks side by side.

    Raises:
        ArgumentError: if the recipe has dropout.
        LayoutError: if the network holds buffers.
    """
    return _SideBySide(job).train_blocks


class _SideBySide:
    """Trains networks of a recipe side by side on one device, where the images are copied once."""

    def __init__(self, job: Job) -> None:
        self.recipe, self.at_once = job.recipe, job.workers or AT_ONCE
        dropout = max(own.dropout for own in self.recipe.varied)
        if dropout:
            raise ArgumentError(
                f"the PyTorch engine has no dropout, got {dropout}, because its masks would differ between devices; "
                "train this recipe with the compiled engine on the CPU"
            )
        names = {own.activation for own in self.recipe.varied}
        self.networks = {name: Network(partial(job.make, name)) for name in names}
        self.train, self.val, self.test = (
            _on(job.device, part) for part in (job.data.train, job.data.val, job.data.test)
        )

    def train_blocks(self, todo: Blocks, done: Callable[[int], object]) -> None:
        """Train blocks and write their files; `done` gets the number of networks in each file."""
        for some in together(list(todo), self.at_once):
            models = [model for block in some for model in block]
            ancestors = [ancestor for ancestor, block in zip(self._ancestors(some), some, strict=True) for _ in block]
            found = dict(zip(models, self._members(models, ancestors), strict=True))
            for block in some:
                write_tensors(todo[block], packed(self.recipe, block, [found[model] for model in block]))
                done(len(block))

    def _members(self, models: Sequence[int], ancestors: Sequence[Tensor | None]) -> list[Trained]:
        """Train models by number, each from its ancestor (D,) if it has one, and score them on both sets of images."""
        varied = self.recipe.varied
        found: dict[int, Trained] = {}
        for activation, network in self.networks.items():  # one stack for each activation, as vmap runs one module
            rows = [row for row, model in enumerate(models) if varied[model].activation == activation]
            if not rows:
                continue
            own = [models[row] for row in rows]
            snapshots = self._train(network, [varied[m] for m in own], own, [ancestors[row] for row in rows])
            scores = [_score(network, snapshots, data) for data in (self.val, self.test)]
            found |= dict(zip(rows, map(Trained, snapshots.numpy(), *scores), strict=True))
        return [found[row] for row in range(len(models))]

    def _ancestors(self, blocks: Sequence[range]) -> Sequence[Tensor | None]:
        """Train the ancestor (D,) of the family in each block; None for each in a recipe without families."""
        if not self.recipe.families:
            return [None] * len(blocks)
        models = [-1 - family_of(self.recipe, block) for block in blocks]
        [network] = self.networks.values()  # families share one activation
        snapshots = self._train(network, [self.recipe] * len(blocks), models, [None] * len(blocks))
        return list(snapshots[:, -1])

    def _train(
        self,
        network: Network,
        recipes: Sequence[ZooRecipe],
        models: Sequence[int],
        ancestors: Sequence[Tensor | None],
    ) -> Tensor:
        """Train a network for each recipe, with the generator of its number; returns their snapshots (N, S, D)."""
        count = len(self.train[1])
        drawn = [
            start(own, network.layout, count, generator_of(self.recipe.seed, model), ancestor)
            for own, model, ancestor in zip(recipes, models, ancestors, strict=True)
        ]
        weights = torch.stack([first for first, _ in drawn])  # (N, D)
        return stacked.train(network, weights, self.train, [plan for _, plan in drawn])[0]


def together(blocks: Sequence[range], at_once: int) -> Iterator[list[range]]:
    """Group blocks in order, each group with at most `at_once` models, or with one block that has more.

    >>> list(together([range(4), range(4, 8), range(8, 12)], 8))
    [[range(0, 4), range(4, 8)], [range(8, 12)]]
    """
    some: list[range] = []
    for block in blocks:
        if some and sum(map(len, some)) + len(block) > at_once:
            yield some
            some = []
        some.append(block)
    if some:
        yield some


def _score(network: Network, snapshots: Tensor, data: Data) -> NDArray[np.float64]:
    """Return the accuracies (N, S) of snapshots (N, S, D)."""
    return stacked.accuracy(network, snapshots.flatten(0, 1), data).reshape(snapshots.shape[:2])


def _on(device: torch.device, data: tuple[Floats, Labels]) -> Data:
    return torch.from_numpy(data[0]).to(device), torch.from_numpy(data[1]).to(device)
