"""Train the autoencoder of a hyper-representation on a zoo; resumable at any step with the same result.

Source: Schürholt et al. 2022, arXiv:2209.14733.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training import processes
from hyperinit_training.align import align
from hyperinit_training.augment import Groups
from hyperinit_training.devices import device_of
from hyperinit_training.losses import layer_std
from hyperinit_training.recipe import AutoencoderRecipe
from hyperinit_training.runs import append_json, truncate_log, write_json
from hyperinit_training.training import Training
from hyperinit_training.zoo import Zoo

LOG_EVERY = 50
CHECKPOINT_SECONDS = 60.0
LEAST_MODELS = 8


def prepare(zoo: Zoo, recipe: AutoencoderRecipe) -> Zoo:
    """Reorder the neurons of all snapshots to match each other, family by family, if the recipe says so.

    Raises:
        ZooError: if the train split is too small to learn from.
    """
    train = zoo.part("train")
    if len(train) < LEAST_MODELS:
        raise ZooError(f"a zoo must have at least {LEAST_MODELS} snapshots to train on, got {len(train)}")
    if not recipe.align:
        return zoo
    scale = layer_std(train.weights, zoo.layout)
    generator = torch.Generator().manual_seed(recipe.seed)
    aligned = zoo.weights
    if processes.is_first():
        aligned = align(zoo.weights, zoo.layout, generator=generator, families=zoo.families, scale=scale)
    return replace(zoo, weights=processes.from_first(aligned))


def train_autoencoder(
    recipe: AutoencoderRecipe,
    zoo: Zoo,
    folder: Path,
    *,
    signs: Groups | None = None,
    device: str | torch.device = "cpu",
) -> Autoencoder:
    """Train an autoencoder on a prepared zoo; a checkpoint found in `folder` is continued.

    Writes `recipe.json`, `log.jsonl` (one line every 50 steps) and `checkpoint.safetensors` into `folder`; of several
    processes the first does, and all must see the folder.

    Args:
        recipe: how to train.
        zoo: prepared zoo.
        folder: for the files.
        signs: groups of neurons that views may flip, see `symmetry.sign_groups`.
        device: "cpu", "cuda" or "cuda:N"; several processes train on CPUs only.

    Returns:
        The trained autoencoder in evaluation mode, on the CPU.

    Raises:
        ArgumentError: if there are more processes than views in a batch, or the device is not there.
        ZooError: if a checkpoint does not fit, or the processes have different zoos.
    """
    if processes.count() > 2 * recipe.batch:
        raise ArgumentError(f"at most {2 * recipe.batch} processes can share a batch, got {processes.count()}")
    where = device_of(device)
    if processes.count() > 1 and where.type != "cpu":
        raise ArgumentError(f"several processes train an autoencoder on CPUs only, got device {where}")
    first = processes.is_first()
    if first:
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    with torch.random.fork_rng(devices=[] if where.type == "cpu" else [where]):
        torch.default_generator.manual_seed(recipe.seed)  # initial weights and dropout; restored on leaving
        training = Training(recipe, zoo, signs, where)
        _begin(training, checkpoint)
        if first:
            write_json(folder / "recipe.json", asdict(recipe))
            truncate_log(log, training.step)
        saved = time.monotonic()
        with tqdm(
            total=recipe.steps, initial=training.step, unit="step", desc="autoencoder", disable=None if first else True
        ) as bar:
            while training.step < recipe.steps:
                losses = training.advance()
                bar.update()
                if not first:
                    continue
                if training.step % LOG_EVERY == 0 or training.step == recipe.steps:
                    record = {key: value.item() for key, value in vars(losses).items()} | training.measure()
                    append_json(log, {"step": training.step, **record})
                    bar.set_postfix({key: f"{value:.3f}" for key, value in record.items()})
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    training.save(checkpoint)
                    saved = time.monotonic()
        if first:
            training.save(checkpoint)
    return training.autoencoder.cpu().eval()


def _begin(training: Training, checkpoint: Path) -> None:
    """Bring all processes to one state."""
    if not processes.same(int(training.identity()["zoo"][:12], 16)):
        raise ZooError("all processes must train on one zoo, got different ones")
    training.dtype = torch.bfloat16 if processes.agreed(training.dtype == torch.bfloat16) else torch.float32
    if processes.agreed(checkpoint.exists()):
        training.resume(checkpoint)
    processes.barrier()  # the first writes from here on, and nobody reads
