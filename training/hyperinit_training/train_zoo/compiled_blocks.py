"""Blocks of a zoo trained by the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperinit.layout import Layout
from hyperinit_training.machine.run_files import write_tensors
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.blocks import Blocks, ImageSet, Labels, Trained, packed
from hyperinit_training.train_zoo.kernels import Floats
from hyperinit_training.train_zoo.schedules import generator_of, initial_weights, schedule


def accuracy(weights: Floats, data: tuple[Floats, Labels], activation: str) -> NDArray[np.float64]:
    """Share of right answers of networks (N, D), float64 (N,)."""
    return np.array([
        (compiled_cnn.predict(w[None], data[0], activation=activation)[0].argmax(1) == data[1]).mean() for w in weights
    ])  # fmt: skip


def by_kernel(  # noqa: PLR0913
    recipe: ZooRecipe, layout: Layout, data: ImageSet, workers: int, todo: Blocks, done: Callable[[int], object]
) -> None:
    """Train blocks by the compiled kernel, one network a thread; ancestors of later blocks fill idle threads."""
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                ancestors = {
                    block: pool.submit(_ancestor, recipe, layout, data, block.start // len(block)) for block in todo
                }
                for block, path in todo.items():
                    write_tensors(path, _block(recipe, layout, data, block, ancestors[block].result(), pool))
                    done(len(block))
            except BaseException:
                pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the models in training, not for all that queue
                raise
    finally:
        torch.set_num_threads(torch_threads)


def _ancestor(recipe: ZooRecipe, layout: Layout, data: ImageSet, family: int) -> Floats | None:
    """Train the network (D,) from which a family branches off; None in a recipe without families."""
    if not recipe.families:
        return None
    ancestor: Floats = _train(recipe, layout, data, generator_of(recipe.seed, -1 - family), None)[-1]
    return ancestor


def _block(  # noqa: PLR0913
    recipe: ZooRecipe, layout: Layout, data: ImageSet, models: range, start: Floats | None, pool: ThreadPoolExecutor
) -> dict[str, Tensor]:
    """Train one family, or a few seeds, and score every snapshot on validation and test images."""
    varied = recipe.varied

    def one(model: int) -> Trained:
        own = varied[model]
        found = _train(own, layout, data, generator_of(recipe.seed, model), start)
        return Trained(found, accuracy(found, data.val, own.activation), accuracy(found, data.test, own.activation))

    return packed(recipe, models, list(pool.map(one, models)))


def _train(
    recipe: ZooRecipe, layout: Layout, data: ImageSet, generator: torch.Generator, start: Floats | None
) -> Floats:
    """Train one network, from `start` if it branches off; returns its snapshots (S, D)."""
    first = initial_weights(recipe.init, layout, generator).numpy() if start is None else start
    plan = schedule(recipe, len(data.train[1]), generator, branch=start is not None)
    return compiled_cnn.train(first, *data.train, plan)[0]
