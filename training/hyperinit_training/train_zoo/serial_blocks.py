"""The engine "serial": trains the networks of a zoo one by one in each thread, of any kind that PyTorch trains.

Each thread has one core and trains one network. Networks of real size have operations of milliseconds, during which
Python's lock is free, so that threads do as well as processes and share the images.

Letters: D weights per network, S snapshots of a network, n images.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hyperinit.errors import ZooError
from hyperinit_training.machine import processes
from hyperinit_training.machine.precision import isolated
from hyperinit_training.machine.run_files import write_tensors, write_text
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.blocks import Blocks, Job, Trained, Trainer, family_of, packed
from hyperinit_training.train_zoo.schedules import generator_of, start
from hyperinit_training.train_zoo.serial import Data, Format, Task, Trainee, fastest_format

FORMAT = "format.txt"  # beside the blocks: a resumed run keeps the format of its start


class Sets(NamedTuple):
    """The training, validation and test images as tensors, which share memory with the arrays of the job."""

    train: Data
    val: Data
    test: Data


def trainer(job: Job) -> Trainer:
    """Return the function that trains the blocks of a job and writes their files.

    Raises:
        ArgumentError: if the network does not take the images, or the labels are not its classes.
    """
    return _OneByOne(job).train_blocks


class _OneByOne:
    """Trains the networks of a job, with the files of unfinished networks beside those of the blocks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        with torch.random.fork_rng(devices=[]):
            self.module: nn.Module = job.make(job.recipe.activation)
        self.data = Sets(*((torch.from_numpy(x), torch.from_numpy(y)) for x, y in vars(job.data).values()))
        self.fastest = fastest_format(self.module, job.layout, self.data.train, job.recipe, job.device)
        self.lock = Lock()  # progress is reported by one thread at a time

    def train_blocks(self, todo: Blocks, done: Callable[[float], object]) -> None:
        """Train blocks and write their files; `done` gets the number of networks, in fractions after each epoch."""
        if not todo:
            return
        threads = torch.get_num_threads()
        form = self._format(next(iter(todo.values())).parent)
        torch.set_num_threads(1)  # the threads of the pool occupy all cores
        try:
            with ThreadPoolExecutor(self.job.workers or processes.cores()) as pool:
                try:
                    self._all(todo, form, pool, done)
                except BaseException:
                    pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the networks in training, not for the queue
                    raise
        finally:
            torch.set_num_threads(threads)

    def _format(self, folder: Path) -> Format:
        """Return the format that the run began with, or the fastest one."""
        path = folder / FORMAT
        if not path.exists():
            write_text(path, f"{self.fastest}\n")
        try:
            return Format.read(path.read_bytes().decode("utf-8", "replace").strip())
        except ZooError as error:
            raise ZooError(f"{path} is damaged ({error}); delete {folder} to train its networks again") from None

    def _all(self, todo: Blocks, form: Format, pool: ThreadPoolExecutor, done: Callable[[float], object]) -> None:
        recipe = self.job.recipe
        # All ancestors are queued at once, so that no thread idles while the last members of a block train.
        ancestors = {
            block: pool.submit(self._ancestor, block, path.parent, form, self._report(block, done))
            for block, path in todo.items()
        }
        for block, path in todo.items():
            one = partial(
                self._member, folder=path.parent, form=form, ancestor=ancestors[block].result(),
                done=self._report(block, done),
            )  # fmt: skip
            write_tensors(path, packed(recipe, block, list(pool.map(one, block))))
            for file in (_file(path.parent, number) for number in self._numbers(block)):
                file.unlink(missing_ok=True)

    def _numbers(self, block: range) -> list[int]:
        """Return the numbers of the networks that are trained for a block: its models, and its family's ancestor."""
        family = [-1 - family_of(self.job.recipe, block)] if self.job.recipe.families else []
        return [*block, *family]

    def _report(self, block: range, done: Callable[[float], object]) -> Callable[[], None]:
        """Return a function that reports the share of one epoch in a block."""
        recipe = self.job.recipe
        own = recipe.branch_epochs if recipe.families else recipe.epochs
        share = len(block) / (own * len(block) + (recipe.epochs if recipe.families else 0))

        def report() -> None:
            with self.lock:
                done(share)

        return report

    @isolated()  # runs in a thread of the pool
    def _ancestor(self, block: range, folder: Path, form: Format, done: Callable[[], object]) -> Tensor | None:
        """Train the ancestor (D,) of the family in a block. Return None for a recipe without families."""
        if not self.job.recipe.families:
            return None
        return self._train(self.job.recipe, -1 - family_of(self.job.recipe, block), None, folder, form, done)[1][-1]

    @isolated()
    def _member(
        self, model: int, *, folder: Path, form: Format, ancestor: Tensor | None, done: Callable[[], object]
    ) -> Trained:
        """Train one model, and score its snapshots on validation and test images."""
        recipe = self.job.recipe.varied[model]
        trainee, found = self._train(recipe, model, ancestor, folder, form, done)
        val, test = (
            np.array([trainee.accuracy(row, data) for row in found]) for data in (self.data.val, self.data.test)
        )
        return Trained(found.numpy(), val, test)

    def _train(  # noqa: PLR0913 - the same for every network of a block
        self, recipe: ZooRecipe, model: int, ancestor: Tensor | None, folder: Path, form: Format,
        done: Callable[[], object],
    ) -> tuple[Trainee, Tensor]:  # fmt: skip
        """Train one network with the generator of its number; returns its snapshots (S, D)."""
        count, seed = len(self.data.train[1]), self.job.recipe.seed
        weights, schedule = start(recipe, self.job.layout, count, generator_of(seed, model), ancestor)
        epochs = recipe.epochs if ancestor is None else recipe.branch_epochs
        trainee = Trainee(self.module, self.job.layout, form, self.job.device)
        task = Task(recipe, weights, schedule, epochs, f"{seed}/{model}")
        return trainee, trainee.train(task, self.data.train, _file(folder, model), done)


def _file(folder: Path, model: int) -> Path:
    """Return the file of a network in training. Ancestors have negative numbers, see `generator_of`."""
    return folder / (f"network-{model:06d}.safetensors" if model >= 0 else f"ancestor-{-1 - model:03d}.safetensors")
