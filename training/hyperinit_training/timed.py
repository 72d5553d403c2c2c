"""How many gradient steps fit in a given time."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from hyperinit_training import processes
from hyperinit_training.recipe import AutoencoderRecipe
from hyperinit_training.runs import write_json
from hyperinit_training.training import Training
from hyperinit_training.zoo import Zoo

TRIED = 5  # gradient steps that are timed


def timed(
    recipe: AutoencoderRecipe, zoo: Zoo, minutes: float | None, folder: Path, device: torch.device
) -> AutoencoderRecipe:
    """Choose the number of steps by the time of some; a resumed run keeps the number it began with.

    Args:
        recipe: how to train; returned as it is if `minutes` is None.
        zoo: prepared zoo.
        minutes: of training.
        folder: keeps the number, in `steps.json`.
        device: where to train.
    """
    if minutes is None:
        return recipe
    plan = folder / "steps.json"
    if processes.agreed(plan.exists()):
        return _of_steps(recipe, int(json.loads(plan.read_text())["steps"]))
    seconds = processes.agreed(_seconds(recipe, zoo, device))
    steps = max(1, round(60 * minutes / seconds))
    if processes.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(plan, {"steps": steps, "seconds per step": seconds, "minutes": minutes})
    return _of_steps(recipe, steps)


def _seconds(recipe: AutoencoderRecipe, zoo: Zoo, device: torch.device) -> float:
    """Time a step; reading a loss waits for a GPU to be done."""
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        training = Training(recipe, zoo, device=device)
        training.advance().total.item()
        began = time.monotonic()
        losses = [training.advance() for _ in range(TRIED)]
        losses[-1].total.item()
    return (time.monotonic() - began) / TRIED


def _of_steps(recipe: AutoencoderRecipe, steps: int) -> AutoencoderRecipe:
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 5))
