"""Train a zoo: many networks side by side, by one compiled loop per thread or, on a GPU, by PyTorch.

A recipe with families trains ancestors first and then branches their members off; one without trains seeds. Work is
done in blocks (a family, or a few seeds) that are written as they finish, so that a killed run goes on where it was.
Several processes deal the blocks out among them, and the first puts them together (see `processes`).

Two engines train the same networks up to rounding: "compiled" the paper's CNN on the CPU, "torch" any network anywhere.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import Architecture, cnn, describe
from hyperinit_training.images.dataset import Images
from hyperinit_training.machine import devices, processes
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import blocks as train_zoo_blocks
from hyperinit_training.train_zoo.blocks import ImageSet, Trainer, read_block
from hyperinit_training.train_zoo.compiled_blocks import by_kernel
from hyperinit_training.train_zoo.stacked_blocks import AT_ONCE, Side
from hyperinit_training.zoo.zoo import Snapshot, Zoo, split_models

ENGINES = ("compiled", "torch")


def train_zoo(  # noqa: PLR0913 - what, on what, where to, and four ways to do it
    recipe: ZooRecipe,
    images: Images,
    folder: Path,
    *,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    engine: str | None = None,
    network: Callable[[], nn.Module] | None = None,
) -> Zoo:
    """Train the zoo that `recipe` describes and save it in `folder`; finished blocks found there are kept.

    Args:
        recipe: what to train.
        images: the data set that the recipe names.
        folder: receives `zoo.json`, `weights.safetensors` and, while it runs, `blocks/`.
        workers: threads of the compiled engine, one per core if None, where processes on one machine share its cores;
            with the torch engine how many networks train side by side, 256 if None.
        device: "cpu", "cuda" or "cuda:N"; a GPU needs the torch engine.
        engine: "compiled" or "torch"; None takes the compiled one where it can, for the paper's CNN on the CPU.
        network: makes the networks, which take images (B, C, 28, 28), give logits (B, classes) and hold no buffers and
            no dropout. None is the paper's CNN with the recipe's activation; a network given has its own.

    Raises:
        ArgumentError: if the blocks found belong to another recipe, there are too few images, the device is not there,
            or engine, device, network and recipe do not go together.
        LayoutError: if the network holds buffers, or parameters outside of conv, linear and norm layers.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 4.1 and Table 7; families are this project's own.
    """
    began, where = time.monotonic(), devices.device_of(device)
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers must be at least 1, got {workers}")
    engine = _engine(engine, where, recipe, own=network is not None)
    if recipe.limit:
        images = images.subset(recipe.limit)
    data = ImageSet(images.normalised("train"), images.normalised("val"), images.normalised("test"))
    module = _module(recipe, int(data.train[0].shape[1]), network)
    layout = Layout.of(module)
    named = {} if network is None else {"network": str(network_name(network))}
    if engine == "torch":
        train = _side(recipe, data, where, network, workers).blocks
        named["engine"] = f"torch on {devices.described(where)}"
    else:
        train = partial(by_kernel, recipe, layout, data, workers or processes.cores())
    paths = _train_blocks(recipe, folder / "blocks", named.get("network"), train)

    def put_together() -> Zoo:
        facts = {**_facts(recipe, images, data), **named, "date": date.today().isoformat()}
        facts["seconds"] = round(time.monotonic() - began, 1)
        zoo = _zoo(recipe, layout, _described(module), [read_block(path) for path in paths], facts)
        zoo.save(folder)
        shutil.rmtree(folder / "blocks")  # also what a kill left there half written
        return zoo

    return processes.once(put_together, lambda: Zoo.load(folder))


def _engine(engine: str | None, device: torch.device, recipe: ZooRecipe, *, own: bool) -> str:
    """Choose the engine, and refuse what does not go together."""
    if engine not in (None, *ENGINES):
        raise ArgumentError(f"engine must be {' or '.join(ENGINES)}, got {engine!r}")
    if engine == "compiled" and (own or device.type != "cpu"):
        got = "another network" if own else f"device {device}"
        raise ArgumentError(f"engine compiled trains the paper's CNN on the CPU, got {got}; leave engine out")
    if own and "activation" in recipe.vary:
        raise ArgumentError("vary of activation needs the paper's CNN, got another network, which has its own")
    return engine or ("torch" if own or device.type != "cpu" else "compiled")


def _module(recipe: ZooRecipe, channels: int, network: Callable[[], nn.Module] | None) -> nn.Module:
    """Make the network for what it is, not for its weights; the global generator is left alone."""
    if network is None:
        with torch.device("meta"):
            return cnn(channels, recipe.activation)
    with torch.random.fork_rng(devices=[]):
        return network()


def network_name(network: Callable[[], nn.Module] | None) -> str | None:
    """Return what a zoo's provenance says of the network that was given: how it prints itself; None for none."""
    if network is None:
        return None
    with torch.random.fork_rng(devices=[]):
        return repr(network())


def _described(module: nn.Module) -> Architecture | None:
    """Write a plain chain as data; None if only its layout can be written."""
    try:
        return describe(module) if type(module) is nn.Sequential else None
    except LayoutError:
        return None


def _side(
    recipe: ZooRecipe,
    data: ImageSet,
    device: torch.device,
    network: Callable[[], nn.Module] | None,
    at_once: int | None,
) -> Side:
    channels = int(data.train[0].shape[1])
    make = (lambda activation: cnn(channels, activation)) if network is None else lambda _: network()
    return Side(recipe, make, data, device, at_once or AT_ONCE)


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
    architecture: Architecture | None,
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


def _train_blocks(recipe: ZooRecipe, folder: Path, network: str | None, train: Trainer) -> list[Path]:
    """Train this process's share of the blocks, but those that are there; returns the files of all, in order."""
    note = recipe.to_json() | ({"network": network} if network else {})
    processes.once(lambda: train_zoo_blocks.claim(folder, note), lambda: train_zoo_blocks.claim(folder, note))
    paths = train_zoo_blocks.blocks_of(recipe, folder)
    mine = dict(list(paths.items())[processes.share()])
    total, hidden = sum(map(len, mine)), None if processes.is_first() else True
    with tqdm(total=total, unit="model", desc="zoo", disable=hidden) as bar:
        todo = {}
        for block, path in mine.items():
            if path.exists():
                read_block(path)  # what is damaged is better said now than after hours
                bar.update(len(block))
            else:
                todo[block] = path
        train(todo, bar.update)
    processes.barrier()
    return list(paths.values())


def _rows(block: dict[str, Tensor]) -> list[list[float]]:
    rows: list[list[float]] = block["rows"].tolist()
    return rows
