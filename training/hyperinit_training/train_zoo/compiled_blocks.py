"""The engine "compiled": trains the blocks of a zoo of the paper's CNN with compiled kernels, on the CPU.

Letters: N networks, D weights of each, S snapshots of a network, n images, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperinit_training.machine import processes
from hyperinit_training.machine.precision import isolated
from hyperinit_training.machine.run_files import write_tensors
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.blocks import Blocks, Job, Labels, Trained, Trainer, family_of, packed
from hyperinit_training.train_zoo.schedules import Floats, generator_of, start


def accuracy(weights: Floats, data: tuple[Floats, Labels], activation: str) -> NDArray[np.float64]:
    """Return the accuracy of each network.

    Args:
        weights: of the networks, float32 (N, D).
        data: normalised images, float32 (n, C, 28, 28), and labels, int64 (n,).
        activation: of the networks.

    Returns:
        Shares of correct predictions, float64 (N,).
    """
    return np.array([
        (compiled_cnn.predict(w[None], data[0], activation=activation)[0].argmax(1) == data[1]).mean() for w in weights
    ])  # fmt: skip


def trainer(job: Job) -> Trainer:
    """Return the function that trains the blocks of a job and writes their files, one network per thread."""
    return partial(_train_blocks, job)


def _train_blocks(job: Job, todo: Blocks, done: Callable[[int], object]) -> None:
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of the pool occupy all cores
    try:
        with ThreadPoolExecutor(job.workers or processes.cores()) as pool:
            try:
                # All ancestors are queued at once, so that no thread idles while the last members of a block train.
                ancestors = {block: pool.submit(_ancestor, job, block) for block in todo}
                for block, path in todo.items():
                    write_tensors(path, _block(job, block, ancestors[block].result(), pool))
                    done(len(block))
            except BaseException:
                pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the networks in training, not for the queue
                raise
    finally:
        torch.set_num_threads(torch_threads)


def _ancestor(job: Job, block: range) -> Floats | None:
    """Train the ancestor (D,) of the family in a block. Return None for a recipe without families."""
    if not job.recipe.families:
        return None
    ancestor: Floats = _train(job, job.recipe, -1 - family_of(job.recipe, block), None)[-1]
    return ancestor


def _block(job: Job, models: range, ancestor: Floats | None, pool: ThreadPoolExecutor) -> dict[str, Tensor]:
    """Train the networks of a block, and score every snapshot on validation and test images."""
    varied, data = job.recipe.varied, job.data

    def one(model: int) -> Trained:
        own = varied[model]
        found = _train(job, own, model, ancestor)
        return Trained(found, accuracy(found, data.val, own.activation), accuracy(found, data.test, own.activation))

    return packed(job.recipe, models, list(pool.map(one, models)))


@isolated()  # runs in a thread of the pool
def _train(job: Job, recipe: ZooRecipe, model: int, ancestor: Floats | None) -> Floats:
    """Train one network by its own recipe, from its ancestor (D,) if it has one; returns its snapshots (S, D)."""
    generator = generator_of(job.recipe.seed, model)
    origin = None if ancestor is None else torch.from_numpy(ancestor)
    weights, plan = start(recipe, job.layout, len(job.data.train[1]), generator, origin)
    return compiled_cnn.train(weights.numpy(), *job.data.train, plan)[0]
