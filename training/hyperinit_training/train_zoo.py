"""Train a zoo: many networks side by side, one compiled training loop per thread.

A recipe with families trains ancestors first and then branches their members off; one without trains seeds. Work is
done in blocks (a family, or a few seeds) that are written as they finish, so that a killed run goes on where it was.
Several processes deal the blocks out among them, and the first puts them together (see `processes`).
"""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from hyperinit.errors import ArgumentError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import Architecture, cnn, describe
from hyperinit_training import compiled_cnn, processes
from hyperinit_training.compiled_cnn import Schedule
from hyperinit_training.images import Images
from hyperinit_training.kernels import Floats
from hyperinit_training.runs import write_json, write_tensors
from hyperinit_training.zoo import Snapshot, Zoo, split_models
from hyperinit_training.zoo_recipe import ZooRecipe

SEEDS_PER_BLOCK = 16
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Normalised images ready for the kernels: each entry is float32 (n, C, 28, 28) and int64 (n,)."""

    train: tuple[Floats, Labels]
    val: tuple[Floats, Labels]
    test: tuple[Floats, Labels]


def train_zoo(recipe: ZooRecipe, images: Images, folder: Path, *, workers: int | None = None) -> Zoo:
    """Train the zoo that `recipe` describes and save it in `folder`; finished blocks found there are kept.

    Args:
        recipe: what to train.
        images: the data set that the recipe names.
        folder: receives `zoo.json`, `weights.safetensors` and, while it runs, `blocks/`.
        workers: threads, one per core if None, where processes on one machine share its cores.

    Raises:
        ArgumentError: if the blocks found belong to another recipe, or there are too few images.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 4.1 and Table 7; families are this project's own.
    """
    began = time.monotonic()
    if recipe.limit:
        images = images.subset(recipe.limit)
    data = ImageSet(images.normalised("train"), images.normalised("val"), images.normalised("test"))
    channels = int(data.train[0].shape[1])
    with torch.device("meta"):  # only its shapes are needed, and no random number is drawn
        network = cnn(channels, recipe.activation)
        layout, architecture = Layout.of(network), describe(network)
    blocks = folder / "blocks"
    processes.once(lambda: _claim(blocks, recipe), lambda: _claim(blocks, recipe))
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        paths = _train_blocks(recipe, layout, data, blocks, workers or processes.cores())
    finally:
        torch.set_num_threads(torch_threads)
    processes.barrier()

    def put_together() -> Zoo:
        facts = {
            **_facts(recipe, images, data),
            "date": date.today().isoformat(),
            "seconds": round(time.monotonic() - began, 1),
        }
        zoo = _zoo(recipe, layout, architecture, [_read(path) for path in paths], facts)
        zoo.save(folder)
        shutil.rmtree(blocks)  # also what a kill left there half written
        return zoo

    return processes.once(put_together, lambda: Zoo.load(folder))


def _facts(recipe: ZooRecipe, images: Images, data: ImageSet) -> dict[str, Any]:
    """What a zoo was made from."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    varied = {key: [getattr(own, key) for own in recipe.varied] for key in recipe.vary}
    shape = {"size": 28, "channels": int(data.train[0].shape[1])}
    return {
        "images": {"name": images.name, **{name: len(labels) for name, (_, labels) in parts.items()}},
        "preprocessing": {**shape, "mean": list(images.mean), "std": list(images.std)},
        "recipe": recipe.to_json(),
        **({"varied": varied} if varied else {}),
    }


def _zoo(
    recipe: ZooRecipe,
    layout: Layout,
    architecture: Architecture,
    blocks: list[dict[str, Tensor]],
    facts: dict[str, Any],
) -> Zoo:
    """Put blocks together; networks that diverged are left out and named."""
    weights = torch.cat([block["weights"] for block in blocks])
    splits = split_models(recipe.models, torch.Generator().manual_seed(recipe.seed))
    rows = [row for block in blocks for row in _rows(block)]
    snapshots = tuple(
        Snapshot(int(model), int(family), epoch, splits[int(model)], val, test)
        for model, family, epoch, val, test in rows
    )
    sound = weights.isfinite().all(1).tolist()
    diverged = sorted({snapshot.model for snapshot, ok in zip(snapshots, sound, strict=True) if not ok})
    weights, snapshots = weights[sound], tuple(compress(snapshots, sound))
    provenance = facts | ({"diverged": diverged} if diverged else {})
    return Zoo(layout, weights, snapshots, architecture, provenance)


def initial_weights(init: str, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw a starting point (D,): "default" is PyTorch's, the others are those of the paper's zoos.

    The paper's zoos have biases of 0.01; "uniform" is U(0, 1) and "normal" N(0, 1), as `torch.nn.init` has them.

    >>> initial_weights("uniform", Layout.of(cnn()), torch.Generator().manual_seed(0)).min() >= 0
    tensor(True)
    """
    parts = []
    for layer in layout.layers:
        fan_in = layer.tensors[0].size // layer.neurons
        for tensor in layer.tensors:
            value = torch.empty(tensor.shape)
            is_bias = len(tensor.shape) == 1
            if init == "default":
                value.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            elif is_bias:
                value.fill_(0.01)
            else:
                getattr(torch.nn.init, f"{init}_")(value, generator=generator)
            parts.append(value.reshape(-1))
    return torch.cat(parts)


def schedule(recipe: ZooRecipe, count: int, generator: torch.Generator, *, branch: bool = False) -> Schedule:
    """Draw the data order of one model over `count` images, a last smaller batch left out, and its rates."""
    epochs = recipe.branch_epochs if branch else recipe.epochs
    steps = count // recipe.batch
    if not steps:
        raise ArgumentError(f"an epoch needs at least one batch of {recipe.batch} images, got {count} images")
    orders = [torch.randperm(count, generator=generator)[: steps * recipe.batch] for _ in range(epochs)]
    order = torch.cat(orders).view(-1, recipe.batch).numpy()
    rate = recipe.branch_rate if branch else recipe.rate
    falling = branch or recipe.schedule == "linear"
    rates = np.linspace(rate, 0 if falling else rate, len(order), endpoint=False, dtype=np.float32)
    keep = () if branch else tuple(epoch * steps for epoch in recipe.snapshots)
    seed = int(torch.randint(2**32, (), generator=generator)) if recipe.dropout else 0
    return Schedule(
        order=order, rates=rates, keep=keep, seed=seed,
        decay=recipe.decay, activation=recipe.activation, dropout=recipe.dropout,
    )  # fmt: skip


def accuracy(weights: Floats, data: tuple[Floats, Labels], activation: str) -> NDArray[np.float64]:
    """Share of right answers of networks (N, D), float64 (N,)."""
    return np.array([
        (compiled_cnn.predict(w[None], data[0], activation=activation)[0].argmax(1) == data[1]).mean() for w in weights
    ])  # fmt: skip


def _claim(folder: Path, recipe: ZooRecipe) -> None:
    """Note whose blocks `folder` holds; blocks of another recipe would be taken for this one's."""
    note = folder / "recipe.json"
    if not note.exists():
        write_json(note, recipe.to_json())
    elif json.loads(note.read_text()) != recipe.to_json():
        raise ArgumentError(f"{folder} holds unfinished work of another recipe; delete it or name another folder")


def _train_blocks(recipe: ZooRecipe, layout: Layout, data: ImageSet, folder: Path, workers: int) -> list[Path]:
    """Train this process's share of the blocks, but those that are there; returns the files of all, in order."""
    per_block = recipe.models // recipe.families if recipe.families else SEEDS_PER_BLOCK
    paths = {start: folder / f"{start:06d}.safetensors" for start in range(0, recipe.models, per_block)}
    models = {start: range(start, min(start + per_block, recipe.models)) for start in list(paths)[processes.share()]}
    total, hidden = sum(map(len, models.values())), None if processes.is_first() else True
    with ThreadPoolExecutor(workers) as pool, tqdm(total=total, unit="model", desc="zoo", disable=hidden) as bar:
        try:
            todo = [start for start in models if not paths[start].exists()]
            ancestors = {start: pool.submit(_ancestor, recipe, layout, data, start // per_block) for start in todo}
            for start, block in models.items():
                if start in ancestors:
                    write_tensors(paths[start], _block(recipe, layout, data, block, ancestors[start].result(), pool))
                else:
                    _read(paths[start])  # what is damaged is better said now than after hours
                bar.update(len(block))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the models in training, not for all that queue
            raise
    return list(paths.values())


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ZooError(f"{path} is damaged ({error}); delete it, and its networks will be trained again") from None


def _ancestor(recipe: ZooRecipe, layout: Layout, data: ImageSet, family: int) -> Floats | None:
    """Train the network (D,) from which a family branches off; None in a recipe without families."""
    if not recipe.families:
        return None
    ancestor: Floats = _train(recipe, layout, data, _generator(recipe.seed, -1 - family), None)[-1]
    return ancestor


def _block(  # noqa: PLR0913
    recipe: ZooRecipe, layout: Layout, data: ImageSet, models: range, start: Floats | None, pool: ThreadPoolExecutor
) -> dict[str, Tensor]:
    """Train one family, or a few seeds, and score every snapshot on validation and test images."""

    varied = recipe.varied

    def one(model: int) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
        own = varied[model]
        found = _train(own, layout, data, _generator(recipe.seed, model), start)
        return found, accuracy(found, data.val, own.activation), accuracy(found, data.test, own.activation)

    results = list(pool.map(one, models))
    epochs = [float(epoch) for epoch in recipe.snapshots] or [float(recipe.epochs)]
    if start is not None:
        epochs = [float(recipe.epochs + recipe.branch_epochs)]
    columns = [
        (model, model if start is None else models.start // len(models), epoch, val, test)
        for model, (_, vals, tests) in zip(models, results, strict=True)
        for epoch, val, test in zip(epochs, vals, tests, strict=True)
    ]
    weights = torch.from_numpy(np.concatenate([weights for weights, _, _ in results]))
    return {"weights": weights, "rows": torch.tensor(columns, dtype=torch.float64)}


def _train(
    recipe: ZooRecipe, layout: Layout, data: ImageSet, generator: torch.Generator, start: Floats | None
) -> Floats:
    """Train one network, from `start` if it branches off; returns its snapshots (S, D)."""
    first = initial_weights(recipe.init, layout, generator).numpy() if start is None else start
    plan = schedule(recipe, len(data.train[1]), generator, branch=start is not None)
    return compiled_cnn.train(first, *data.train, plan)[0]


def _generator(seed: int, model: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + model) % 2**63)


def _rows(block: dict[str, Tensor]) -> list[list[float]]:
    rows: list[list[float]] = block["rows"].tolist()
    return rows
