"""The blocks of a zoo by the PyTorch path: as many side by side as a GPU likes, each written into its own file.

Letters: N networks, D weights of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperinit.errors import ArgumentError
from hyperinit_training.machine.run_files import write_tensors
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import stacked
from hyperinit_training.train_zoo.blocks import ImageSet, Labels, Trained, packed
from hyperinit_training.train_zoo.kernels import Floats
from hyperinit_training.train_zoo.schedules import generator_of, initial_weights, schedule
from hyperinit_training.train_zoo.stacked import Data, Network

AT_ONCE = 256  # networks that train side by side where nobody says how many


class Side:
    """Trains networks of a recipe side by side on one device.

    Args:
        recipe: of the zoo.
        make: makes the network with a given activation; one that has its own may ignore that.
        data: the images, which are put on the device once.
        device: where to train.
        at_once: networks side by side; a family or a block of seeds is never cut, so it may be more.

    Raises:
        ArgumentError: if the recipe has dropout.
        LayoutError: if the network holds buffers.
    """

    def __init__(
        self, recipe: ZooRecipe, make: Callable[[str], nn.Module], data: ImageSet, device: torch.device, at_once: int
    ) -> None:
        dropout = max(own.dropout for own in recipe.varied)
        if dropout:
            raise ArgumentError(
                f"the PyTorch path has no dropout, got {dropout}: its masks would be other ones on every device; "
                "such a zoo is trained by the compiled kernel, on the CPU"
            )
        self.recipe, self.at_once = recipe, at_once
        names = {own.activation for own in recipe.varied}
        self.networks = {name: Network(lambda name=name: make(name)) for name in names}  # type: ignore[misc]
        self.train, self.val, self.test = (_on(device, part) for part in (data.train, data.val, data.test))

    def blocks(self, todo: Mapping[range, Path], done: Callable[[int], object]) -> None:
        """Train blocks and write their files; `done` is told how many networks came with each file."""
        for some in together(list(todo), self.at_once):
            ancestors = self._ancestors(some)
            models = [model for block in some for model in block]
            starts = None if ancestors is None else torch.cat([
                row.expand(len(block), -1) for row, block in zip(ancestors, some, strict=True)
            ])  # fmt: skip
            found = dict(zip(models, self.members(models, starts), strict=True))
            for block in some:
                write_tensors(todo[block], packed(self.recipe, block, [found[model] for model in block]))
                done(len(block))

    def members(self, models: Sequence[int], starts: Tensor | None) -> list[Trained]:
        """Train models by number, from `starts` (N, D) if they branch off, and score them on both sets of images."""
        own, varied = [generator_of(self.recipe.seed, model) for model in models], self.recipe.varied
        found: dict[int, Trained] = {}
        for activation, network in self.networks.items():
            rows = [row for row, model in enumerate(models) if varied[model].activation == activation]
            if not rows:
                continue
            recipes, generators = [varied[models[row]] for row in rows], [own[row] for row in rows]
            snapshots = self._train(network, recipes, generators, None if starts is None else starts[rows])
            scores = [self._score(network, snapshots, data) for data in (self.val, self.test)]
            found |= dict(zip(rows, map(Trained, snapshots.numpy(), *scores), strict=True))
        return [found[row] for row in range(len(models))]

    def _ancestors(self, blocks: Sequence[range]) -> Tensor | None:
        """Train the networks (families, D) from which families branch off; None in a recipe without families."""
        if not self.recipe.families:
            return None
        numbers = [block.start // len(block) for block in blocks]
        generators = [generator_of(self.recipe.seed, -1 - number) for number in numbers]
        [network] = self.networks.values()
        return self._train(network, [self.recipe] * len(blocks), generators, None)[:, -1]

    def _train(
        self,
        network: Network,
        recipes: Sequence[ZooRecipe],
        generators: Sequence[torch.Generator],
        starts: Tensor | None,
    ) -> Tensor:
        """Train a network for each recipe; returns their snapshots (N, S, D)."""
        pairs = list(zip(recipes, generators, strict=True))
        if starts is None:
            weights = torch.stack([initial_weights(own.init, network.layout, draws) for own, draws in pairs])
        else:
            weights = starts
        count = len(self.train[1])
        plans = [schedule(own, count, draws, branch=starts is not None) for own, draws in pairs]
        return stacked.train(network, weights, self.train, plans)[0]

    @staticmethod
    def _score(network: Network, snapshots: Tensor, data: Data) -> NDArray[np.float64]:
        """Score snapshots (N, S, D), (N, S)."""
        return stacked.accuracy(network, snapshots.flatten(0, 1), data).reshape(snapshots.shape[:2])


def together(blocks: Sequence[range], at_once: int) -> Iterator[list[range]]:
    """Join blocks in their order, up to `at_once` models, and at least one block.

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


def _on(device: torch.device, data: tuple[Floats, Labels]) -> Data:
    return torch.from_numpy(data[0]).to(device), torch.from_numpy(data[1]).to(device)
