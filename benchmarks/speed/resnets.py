"""Row resnet: training steps of residual networks by the serial engine, beside a plain float32 loop, on one core."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.layout import Layout
from hyperinit.nets import resnet
from hyperinit_training.recipes.load import load_recipe
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo.schedules import Schedule
from hyperinit_training.train_zoo.serial import Data, Task, Trainee, augmented, fastest_format, seeded

DEPTHS = (8, 14, 20)
TARGET = "at least 2.3 times"
CPU = torch.device("cpu")


def resnets(effort: Effort) -> list[Case]:
    """Time both loops on noise, with random crops and flips, by the recipe `cifar10-resnet`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the engine trains one network on each core
    try:
        return [_case(depth, effort) for depth in DEPTHS]
    finally:
        torch.set_num_threads(threads)


def _case(depth: int, effort: Effort) -> Case:
    recipe = load_recipe("cifar10-resnet").zoo
    recipe = replace(recipe, epochs=1, families=0, models=1, batch=effort.size(recipe.batch, 4))
    steps = effort.size(8, 1)
    draws = torch.Generator().manual_seed(0)
    size = effort.size(32, 8)
    data = (
        torch.randn(steps * recipe.batch, 3, size, size, generator=draws),
        torch.randint(10, (steps * recipe.batch,), generator=draws),
    )
    plan = Schedule(
        order=np.arange(steps * recipe.batch).reshape(steps, recipe.batch), rates=np.full(steps, 1e-3, np.float32)
    )
    module = resnet(depth)
    layout = Layout.of(module)
    form = fastest_format(module, layout, data, recipe, CPU)
    task = Task(recipe, layout.flatten(module.state_dict()), plan, 1, "0")
    trainee = Trainee(module, layout, form, CPU)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainee.train(task, data, Path(folder) / "state.safetensors", lambda: None)

    times = interleaved({"ours": ours, "peer": lambda: _plain(module, recipe, data, plan)}, effort.runs)
    images = steps * recipe.batch
    return Case(
        f"ResNet-{depth} of width 16: images per second, batch {recipe.batch}", "1/s", spread(times["ours"], images),
        spread(times["peer"], images), target=TARGET, note=f"the engine timed the formats and took {form}",
    )  # fmt: skip


def _plain(module: torch.nn.Module, recipe: ZooRecipe, data: Data, plan: Schedule) -> None:
    """Train as a plain script does: float32, PyTorch's default memory format, and its optimizer's default loop."""
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, recipe.momentum, nesterov=True, weight_decay=recipe.decay)
    module.train()
    generator = seeded("0")
    for chosen in plan.order:
        images = augmented(data[0][chosen], recipe.augment, generator)
        optimizer.zero_grad()
        functional.cross_entropy(module(images), data[1][chosen]).backward()
        optimizer.step()
