"""Train an autoencoder on a zoo: align the networks, choose the number of steps, train and save checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from hyperinit.autoencoder import Autoencoder
from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.machine import processes
from hyperinit_training.machine.devices import device_of
from hyperinit_training.machine.lock import locked
from hyperinit_training.machine.precision import isolated
from hyperinit_training.machine.progress import Progress
from hyperinit_training.machine.run_files import append_json, read_record, truncate_log, write_record
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe
from hyperinit_training.symmetry.align import align
from hyperinit_training.symmetry.positions import Groups
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.statistics import layer_std
from hyperinit_training.zoo.zoo import LEAST_MODELS, Zoo

LOG_EVERY = 50  # steps
CHECKPOINT_SECONDS = 60.0
TIMED_STEPS = 5  # steps from which `timed` takes the mean


@isolated()
def prepare(zoo: Zoo, recipe: AutoencoderRecipe) -> Zoo:
    """Permute the neurons of all snapshots to match each other, family by family, if `recipe.align` is True.

    Args:
        zoo: zoo as trained or read, not modified.
        recipe: recipe of the autoencoder.

    Returns:
        The aligned zoo, or `zoo` itself without alignment. The networks compute the same functions.

    Raises:
        ZooError: if the train split has too few snapshots.
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


@isolated()
def train_autoencoder(
    recipe: AutoencoderRecipe,
    zoo: Zoo,
    folder: Path,
    *,
    signs: Groups | None = None,
    device: str | torch.device = "cpu",
) -> Autoencoder:
    """Train an autoencoder on a prepared zoo, or resume from a checkpoint in `folder`.

    Writes `recipe.json`, `log.jsonl` (one line every 50 steps) and `checkpoint.safetensors` into `folder`. If several
    processes train, the first one writes, and all must have access to the folder.

    Args:
        recipe: sizes of the autoencoder and options of the training.
        zoo: zoo from `prepare`.
        folder: folder of the run's files, created if needed.
        signs: groups of neurons whose signs views may flip, see `symmetry.sign_groups`. None flips no signs.
        device: "cpu", "cuda" or "cuda:N". Several processes train on CPUs only.

    Returns:
        The trained autoencoder in evaluation mode, on the CPU.

    Raises:
        ArgumentError: if there are more processes than views in a batch, the device does not exist, or another training
            runs in the folder.
        ZooError: if a checkpoint is damaged or belongs to another recipe or zoo, the processes have different zoos,
            or the training diverges. A checkpoint in the folder is unchanged then.
        WriteError: if a file cannot be written, for example on a full disk. The last checkpoint is unchanged then.
    """
    if processes.count() > 2 * recipe.batch:
        raise ArgumentError(f"at most {2 * recipe.batch} processes can share a batch, got {processes.count()}")
    where = device_of(device)
    if processes.count() > 1 and where.type != "cpu":
        raise ArgumentError(f"device must be cpu if several processes train an autoencoder, got {where}")
    devices = [] if where.type == "cpu" else [where]
    with locked(folder), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(recipe.seed)  # for initial weights and dropout; fork_rng restores it
        training = Training(recipe, zoo, signs, where)
        _begin(training, folder / "checkpoint.safetensors")
        _run(training, folder)
    return training.autoencoder.cpu().eval()


def _run(training: Training, folder: Path) -> None:
    """Take the remaining steps. The first process writes the files."""
    recipe, first = training.recipe, processes.is_first()
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    if first:
        write_record(folder / "recipe.json", asdict(recipe))
        truncate_log(log, training.step)
    saved = time.monotonic()
    with Progress("autoencoder", recipe.steps, "step", done=training.step) as progress:
        while training.step < recipe.steps:
            losses = training.advance()
            progress.advance()
            if not first:
                continue
            if training.step % LOG_EVERY == 0 or training.step == recipe.steps:
                record = {key: value.item() for key, value in vars(losses).items()} | training.measure()
                if not all(map(math.isfinite, record.values())):
                    raise training.diverged()
                append_json(log, {"step": training.step, **record})
                progress.say(_note(record))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                training.save(checkpoint)
                saved = time.monotonic()
    if first:
        training.save(checkpoint)


def _note(record: Mapping[str, float]) -> str:
    """Return the two figures that tell how well an autoencoder does, short enough for any terminal.

    >>> _note({"total": 0.5, "train_r2": 0.75})
    'loss 0.500, R2 0.750'
    """
    return f"loss {record['total']:.3f}, R2 {record.get('val_r2', record.get('train_r2', math.nan)):.3f}"


@isolated()
def timed(
    recipe: AutoencoderRecipe, zoo: Zoo, minutes: float | None, folder: Path, device: torch.device
) -> AutoencoderRecipe:
    """Replace the number of steps by the number that fits in a given time, measured on a few steps.

    The number is saved in `steps.json`, so that a resumed run keeps it.

    Args:
        recipe: recipe of the autoencoder.
        zoo: zoo from `prepare`.
        minutes: time for the training. None returns the recipe unchanged.
        folder: folder of the run's files.
        device: device of the training.

    Returns:
        The recipe with other `steps`. Its `warmup` is at most a fifth of them.

    Raises:
        ArgumentError: if another training runs in the folder.
        ZooError: if `steps.json` is damaged.
        WriteError: if it cannot be written.
    """
    if minutes is None:
        return recipe
    plan = folder / "steps.json"
    with locked(folder):
        if processes.agreed(plan.exists()):
            return _of_steps(recipe, _planned(plan))
        seconds = processes.agreed(_seconds(recipe, zoo, device))
        steps = max(1, round(60 * minutes / seconds))
        if processes.is_first():
            write_record(plan, {"steps": steps, "seconds per step": seconds, "minutes": minutes})
        processes.barrier()
    return _of_steps(recipe, steps)


def _planned(plan: Path) -> int:
    try:
        return int(read_record(plan)["steps"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ZooError(f"cannot resume from {plan}: {error}; delete it to measure the time of a step again") from None


def _begin(training: Training, checkpoint: Path) -> None:
    """Resume if there is a checkpoint, and give all processes the same zoo, precision and state."""
    if not processes.same(int(training.identity()["zoo"][:12], 16)):
        raise ZooError("all processes must train on the same zoo, got different networks")
    training.dtype = torch.bfloat16 if processes.agreed(training.dtype == torch.bfloat16) else torch.float32
    if processes.agreed(checkpoint.exists()):
        training.resume(checkpoint)
    processes.barrier()  # all have read the checkpoint before the first process overwrites it


def _seconds(recipe: AutoencoderRecipe, zoo: Zoo, device: torch.device) -> float:
    """Return the seconds of one gradient step."""
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        training = Training(recipe, zoo, device=device)
        training.advance().total.item()  # not timed: the first step compiles; .item() waits for the GPU
        began = time.monotonic()
        losses = [training.advance() for _ in range(TIMED_STEPS)]
        losses[-1].total.item()
    return (time.monotonic() - began) / TIMED_STEPS


def _of_steps(recipe: AutoencoderRecipe, steps: int) -> AutoencoderRecipe:
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 5))
