"""Train a zoo: plan its blocks, train them with one of two engines, and put them together.

A recipe with families trains ancestors first and then branches their members off; one without trains seeds. The work is
divided into blocks (a family, or a few seeds). Each block is written when it is finished, so a killed run resumes with
the next one. Several processes divide the blocks among them, and the first process puts them together (see
`processes`).

Both engines train the same networks up to rounding. "compiled" trains the paper's CNN on the CPU, "torch" any network
on any device.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import date
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
from hyperinit_training.train_zoo import compiled_blocks, stacked_blocks
from hyperinit_training.train_zoo.blocks import Engine, ImageSet, Job, Trainer, blocks_of, claim, read_block
from hyperinit_training.zoo.zoo import Snapshot, Zoo, split_models

ENGINES: dict[str, Engine] = {"compiled": compiled_blocks.trainer, "torch": stacked_blocks.trainer}


def train_zoo(  # noqa: PLR0913 - three arguments and four options
    recipe: ZooRecipe,
    images: Images,
    folder: Path,
    *,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    engine: str | None = None,
    network: Callable[[], nn.Module] | None = None,
) -> Zoo:
    """Train the zoo of a recipe and save it in `folder`. Finished blocks in the folder are kept.

    Args:
        recipe: of the zoo.
        images: the data set that the recipe names.
        folder: receives `zoo.json`, `weights.safetensors` and, during the training, `blocks/`.
        workers: threads of the compiled engine. None takes one per core; processes on one machine share its cores.
            With the torch engine it is the number of networks side by side, and None takes 256.
        device: "cpu", "cuda" or "cuda:N". A GPU needs the torch engine.
        engine: "compiled" or "torch". None takes the compiled engine for the paper's CNN on the CPU, else torch.
        network: makes the networks. They take images (B, C, 28, 28), return logits (B, classes), and hold no buffers
            and no dropout. They have their own activation. None is the paper's CNN with the recipe's activation.

    Raises:
        ArgumentError: if the folder holds blocks of another recipe or network, there are too few images, the device is
            not available, or engine, device, network and recipe exclude each other.
        LayoutError: if the network holds buffers, or parameters outside of conv, linear and norm layers.
        ZooError: if a block in the folder is damaged.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 4.1 and Table 7; families are an addition of this project.
    """
    began, where = time.monotonic(), devices.device_of(device)
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers must be at least 1, got {workers}")
    engine = _engine(engine, where, recipe, own=network is not None)
    if recipe.limit:
        images = images.subset(recipe.limit)
    data = ImageSet(images.normalised("train"), images.normalised("val"), images.normalised("test"))
    channels = int(data.train[0].shape[1])
    module = _made(network) if network else _paper_cnn(channels, recipe.activation)
    layout = Layout.of(module)
    make = (lambda _: network()) if network else (lambda activation: cnn(channels, activation))
    train = ENGINES[engine](Job(recipe, data, make, layout, where, workers))
    named = {"network": layout.digest} if network else {}
    note = recipe.to_json() | (named | {"architecture": _described(module)} if network else {})
    paths = _train_blocks(recipe, folder / "blocks", note, train)
    if engine == "torch":
        named["engine"] = f"torch on {devices.described(where)}"

    def put_together() -> Zoo:
        facts = {**_facts(recipe, images, data), **named, "date": date.today().isoformat()}
        facts["seconds"] = round(time.monotonic() - began, 1)
        zoo = _zoo(recipe, layout, _described(module), [read_block(path) for path in paths], facts)
        zoo.save(folder)
        shutil.rmtree(folder / "blocks")  # also removes partial files of a killed run
        return zoo

    return processes.once(put_together, lambda: Zoo.load(folder))


def same_network(zoo: Zoo, network: Callable[[], nn.Module] | None) -> bool:
    """Tell whether a zoo holds networks that `network` makes; None is the paper's CNN.

    They are compared by the digest of their layout and, for a chain of plain steps, by its description, which also
    names the activations. The zoo stores both, so zoos of earlier versions are recognised, too.
    """
    if network is None or "network" not in zoo.provenance:
        return network is None and "network" not in zoo.provenance
    module = _made(network)
    return (zoo.layout.digest, zoo.architecture) == (Layout.of(module).digest, _described(module))


def _engine(engine: str | None, device: torch.device, recipe: ZooRecipe, *, own: bool) -> str:
    """Choose the engine, and refuse a combination that it cannot train."""
    if engine not in (None, *ENGINES):
        raise ArgumentError(f"engine must be {' or '.join(ENGINES)}, got {engine!r}")
    if engine == "compiled" and (own or device.type != "cpu"):
        got = "another network" if own else f"device {device}"
        raise ArgumentError(f"engine compiled trains the paper's CNN on the CPU, got {got}; remove engine='compiled'")
    if own and "activation" in recipe.vary:
        raise ArgumentError("vary of activation needs the paper's CNN, got another network; remove activation from it")
    return engine or ("torch" if own or device.type != "cpu" else "compiled")


def _made(network: Callable[[], nn.Module]) -> nn.Module:
    """Make a network without moving the global generator."""
    with torch.random.fork_rng(devices=[]):
        return network()


def _paper_cnn(channels: int, activation: str) -> nn.Module:
    """Make the paper's CNN without weights."""
    with torch.device("meta"):
        return cnn(channels, activation)


def _described(module: nn.Module) -> Architecture | None:
    """Write a plain chain as data; None for a network of which only the layout can be written."""
    try:
        return describe(module) if type(module) is nn.Sequential else None
    except LayoutError:
        return None


def _facts(recipe: ZooRecipe, images: Images, data: ImageSet) -> dict[str, Any]:
    """Return the provenance of a zoo: images, preprocessing and recipe."""
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
    """Join blocks into a zoo. Networks that diverged are left out, and the provenance lists them."""
    weights = torch.cat([block["weights"] for block in blocks])  # (snapshots, D)
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


def _train_blocks(recipe: ZooRecipe, folder: Path, note: dict[str, Any], train: Trainer) -> list[Path]:
    """Train this process's share of the blocks, except those that are finished; returns all files, in order."""
    processes.once(lambda: claim(folder, note), lambda: claim(folder, note))
    paths = blocks_of(recipe, folder)
    mine = dict(list(paths.items())[processes.share()])
    total, hidden = sum(map(len, mine)), None if processes.is_first() else True
    with tqdm(total=total, unit="model", desc="zoo", disable=hidden) as bar:
        todo = {}
        for block, path in mine.items():
            if path.exists():
                read_block(path)  # reports a damaged file before hours of training
                bar.update(len(block))
            else:
                todo[block] = path
        train(todo, bar.update)
    processes.barrier()
    return list(paths.values())


def _rows(block: dict[str, Tensor]) -> list[list[float]]:
    rows: list[list[float]] = block["rows"].tolist()
    return rows
