"""Train a zoo: plan its blocks, train them with one of two engines, and put them together.

A recipe with families trains ancestors first and then branches their members off; one without trains seeds. The work is
divided into blocks (a family, or a few seeds). Each block is written when it is finished, so a killed run resumes with
the next one. Several processes divide the blocks among them, and the first process puts them together (see
`processes`).

The engines "compiled" and "torch" train the same small networks up to rounding: "compiled" the paper's CNN on the CPU,
"torch" many copies of any network side by side on any device. "serial" trains networks of real size one by one, with
batch norm, dropout, augmentation and mixed precision.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit.layout import Layout
from hyperinit.nets import Architecture, cnn, describe
from hyperinit.nets.residual import named
from hyperinit_training.images.dataset import Images
from hyperinit_training.machine import devices, processes
from hyperinit_training.machine.lock import locked
from hyperinit_training.machine.precision import isolated
from hyperinit_training.machine.progress import Progress
from hyperinit_training.recipes.zoo import PAPER_CNN, ZooRecipe
from hyperinit_training.train_zoo import compiled_blocks, serial_blocks, stacked_blocks
from hyperinit_training.train_zoo.blocks import IMAGES, Engine, ImageSet, Job, Trainer, blocks_of, claim, read_block
from hyperinit_training.zoo.zoo import Snapshot, Zoo, split_models

ENGINES: dict[str, Engine] = {
    "compiled": compiled_blocks.trainer,
    "torch": stacked_blocks.trainer,
    "serial": serial_blocks.trainer,
}


@isolated()
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
        workers: threads of the compiled and the serial engine. None takes one per core; processes on one machine share
            its cores. With the torch engine it is the number of networks side by side, and None takes 256.
        device: "cpu", "cuda" or "cuda:N". A GPU needs the torch or the serial engine.
        engine: "compiled", "torch" or "serial". None takes the compiled engine for the paper's CNN on the CPU, and the
            serial one for networks with buffers or dropout and for what only that one trains (see `ZooRecipe`).
        network: makes the networks. They take images (B, C, H, W), return logits (B, classes), and have their own
            activation. None is the network of the recipe.

    Raises:
        ArgumentError: if the folder holds blocks of another recipe or network, there are too few images, the device is
            not available, engine, device, network and recipe exclude each other, or another training runs in the
            folder.
        LayoutError: if the network holds parameters outside of conv, linear and norm layers, or buffers with the torch
            engine.
        ZooError: if a block in the folder is damaged, or every network diverges.
        WriteError: if a file cannot be written, for example on a full disk. Finished blocks are kept.

    Source: Schürholt et al. 2022, arXiv:2209.14733, section 4.1 and Table 7; families are an addition of this project.
    """
    began, where = time.monotonic(), devices.device_of(device)
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers must be at least 1, got {workers}")
    if recipe.limit:
        images = images.subset(recipe.limit)
    data = ImageSet(images.normalised("train"), images.normalised("val"), images.normalised("test"))
    given = network is not None
    channels, classes = int(data.train[0].shape[1]), max(int(y.max()) for _, y in vars(data).values()) + 1
    if network is None and recipe.network != PAPER_CNN:
        network = partial(named, recipe.network, channels=channels, classes=classes)
    module = _made(network) if network else _paper_cnn(channels, recipe.activation)
    engine = _engine(engine, where, recipe, module if network else None)
    layout = Layout.of(module)
    make = (lambda _: network()) if network else (lambda activation: cnn(channels, activation))
    train = ENGINES[engine](Job(recipe, data, make, layout, where, workers))
    own = {"network": layout.digest} if given else {}
    note = recipe.to_json() | (own | {"architecture": _described(module)} if own else {})
    note[IMAGES] = _digest(data)
    opening = "compiling, then training the first networks" if engine == "compiled" else ""
    if engine != "compiled":
        own["engine"] = f"{engine} on {devices.described(where)}"

    def put_together(paths: Mapping[range, Path]) -> Zoo:
        facts = {**_facts(recipe, images, data), **own, "date": date.today().isoformat()}
        facts["seconds"] = round(time.monotonic() - began, 1)
        found = [read_block(path, recipe, models, layout.size) for models, path in paths.items()]
        zoo = _zoo(recipe, layout, _described(module), found, facts)
        zoo.save(folder)
        shutil.rmtree(folder / "blocks")
        return zoo

    with locked(folder):
        paths = _train_blocks(recipe, folder / "blocks", note, train, layout.size, opening)
        return processes.once(lambda: put_together(paths), lambda: Zoo.load(folder))


def same_network(zoo: Zoo, network: Callable[[], nn.Module] | None) -> bool:
    """Tell whether a zoo holds networks that `network` makes; None is the paper's CNN.

    They are compared by the digest of their layout and, for a chain of plain steps, by its description, which also
    names the activations. The zoo stores both, so zoos of earlier versions are recognised, too.
    """
    if network is None or "network" not in zoo.provenance:
        return network is None and "network" not in zoo.provenance
    module = _made(network)
    return (zoo.layout.digest, zoo.architecture) == (Layout.of(module).digest, _described(module))


def _engine(engine: str | None, device: torch.device, recipe: ZooRecipe, module: nn.Module | None) -> str:
    """Choose the engine for a module, None for the paper's CNN, and refuse a combination that it cannot train."""
    own = module is not None
    if engine not in (None, *ENGINES):
        raise ArgumentError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "compiled" and (own or device.type != "cpu"):
        got = "another network" if own else f"device {device}"
        raise ArgumentError(f"engine compiled trains the paper's CNN on the CPU, got {got}; remove engine='compiled'")
    if own and "activation" in recipe.vary:
        raise ArgumentError("vary of activation needs the paper's CNN, got another network; remove activation from it")
    if needs_serial(recipe, module):
        if engine not in (None, "serial"):
            raise ArgumentError(
                f"engine {engine} trains networks without buffers and dropout, with Adam and without augmentation, got "
                "a network or a recipe with more; remove engine="
            )
        return "serial"
    return engine or ("torch" if own or device.type != "cpu" else "compiled")


def needs_serial(recipe: ZooRecipe, module: nn.Module | None) -> bool:
    """Tell whether only the serial engine trains a module, None for the paper's CNN, by a recipe."""
    if module is None:
        return False
    more = recipe.optimizer != "adam" or recipe.smoothing > 0 or recipe.augment != ""
    drops = any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p for part in module.modules())
    return more or recipe.schedule not in ("constant", "linear") or drops or next(module.buffers(), None) is not None


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
        return describe(module)
    except LayoutError:
        return None


def _facts(recipe: ZooRecipe, images: Images, data: ImageSet) -> dict[str, Any]:
    """Return the provenance of a zoo: images, preprocessing and recipe."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    varied = {key: [getattr(own, key) for own in recipe.varied] for key in recipe.vary}
    shape = {"size": int(data.train[0].shape[2]), "channels": int(data.train[0].shape[1])}
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
    if not snapshots:
        raise ZooError(
            f"a network must keep finite weights, all {recipe.models} diverged; lower the rate of the recipe"
        )
    provenance = facts | ({"diverged": diverged} if diverged else {})
    return Zoo(layout, weights, snapshots, architecture, provenance)


def _train_blocks(  # noqa: PLR0913
    recipe: ZooRecipe, folder: Path, note: dict[str, Any], train: Trainer, size: int, opening: str
) -> dict[range, Path]:
    """Train this process's share of the blocks, except those that are finished; returns all files, in order."""
    processes.once(lambda: claim(folder, note), lambda: claim(folder, note))
    paths = blocks_of(recipe, folder)
    todo, mine = {}, dict(list(paths.items())[processes.share()])
    with locked(folder), Progress("zoo", sum(map(len, mine)), "model") as progress:
        for block, path in mine.items():
            if path.exists():
                read_block(path, recipe, block, size)  # reports a damaged file before hours of training
            else:
                todo[block] = path
        progress.start(progress.total - sum(map(len, todo)))
        progress.say(opening if todo else "")

        def done(count: float) -> None:
            progress.advance(count)
            progress.say("")

        train(todo, done)
    processes.barrier()
    return paths


def _digest(data: ImageSet) -> str:
    """Return the digest of all images and labels, so that a resumed run does not go on with others."""
    found = hashlib.sha256()
    for part in (data.train, data.val, data.test):
        for array in part:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _rows(block: dict[str, Tensor]) -> list[list[float]]:
    rows: list[list[float]] = block["rows"].tolist()
    return rows
