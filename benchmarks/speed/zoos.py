"""Row zoo: model-epochs per minute against one plain PyTorch loop per model, one process per core."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed import machine
from benchmarks.speed.timing import Case, Effort, spread
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training import compiled_cnn
from hyperinit_training.compiled_cnn import Schedule
from hyperinit_training.recipe import load_recipe
from hyperinit_training.zoo_recipe import ZooRecipe

TRAINING = 3 * 2 * (8 * 25 * 576 + 6 * 8 * 25 * 64 + 4 * 6 * 4 * 9 + 20 * 36 + 10 * 20)  # operations an image
IMAGES = {"mnist-paper": 2_000, "mnist-tuned": 6_400}  # of an excerpt; an epoch of the recipe has 50,000
EPOCH = 50_000
TARGET = {"mnist-paper": 6, "mnist-tuned": 3}


def zoo(effort: Effort) -> list[Case]:
    """Both recipes; the data are noise, which takes as long as images."""
    return [_case(name, effort) for name in TARGET]


def _case(name: str, effort: Effort) -> Case:
    recipe, cores, count = load_recipe(name).zoo, os.cpu_count() or 1, effort.size(IMAGES[name], 256)
    images = np.random.default_rng(0).standard_normal((count, 1, 28, 28)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 10, count)
    ours, peer = [], []
    _ours(recipe, images, labels, cores)  # compiles
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(_plain, [(recipe, images[:200], labels[:200])] * cores))  # imports torch
        for _ in range(effort.runs):
            ours.append(_ours(recipe, images, labels, cores))
            began = time.perf_counter()
            list(pool.map(_plain, [(recipe, images, labels)] * cores))
            peer.append(time.perf_counter() - began)
    done = cores * count / EPOCH * 60  # model-epochs of an excerpt, times the seconds of a minute
    floor = machine.flops() / TRAINING / EPOCH * 60
    reckoned = f"{TRAINING / 1e6:.2f} MFLOP an image at {machine.flops() / 1e9:.0f} GFLOP/s"
    case = f"{name}: model-epochs per minute, batch {recipe.batch}"
    target = f"at least {TARGET[name]} times"
    return Case(case, "1/min", spread(ours, done), spread(peer, done), floor, reckoned, target)


def _order(recipe: ZooRecipe, count: int) -> np.ndarray:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[: count // recipe.batch * recipe.batch].view(-1, recipe.batch).numpy()


def _ours(recipe: ZooRecipe, images: np.ndarray, labels: np.ndarray, cores: int) -> float:
    weights = Layout.of(cnn()).flatten(cnn().state_dict()).numpy()
    order = _order(recipe, len(images))
    rates = np.full(len(order), recipe.rate, np.float32)
    plan = Schedule(order=order, rates=rates, decay=recipe.decay, activation=recipe.activation)
    began = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda _: compiled_cnn.train(weights, images, labels, plan), range(cores)))
    return time.perf_counter() - began


def _plain(task: tuple[ZooRecipe, np.ndarray, np.ndarray]) -> None:
    """The loop that everybody writes."""
    recipe, images, labels = task
    torch.set_num_threads(1)
    model: nn.Module = cnn(activation=recipe.activation)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for rows in torch.from_numpy(_order(recipe, len(images))):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
