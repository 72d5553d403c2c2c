"""Row zoo: model-epochs per minute beside plain PyTorch loops, one process for each core; per second on a GPU."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed import machine
from benchmarks.speed.runtime import FORWARD
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.machine.devices import described
from hyperinit_training.recipes.load import load_recipe
from hyperinit_training.recipes.zoo import ZooRecipe
from hyperinit_training.train_zoo import compiled_cnn, stacked
from hyperinit_training.train_zoo.schedules import Schedule, initial_weights, schedule
from hyperinit_training.train_zoo.stacked import Network
from hyperinit_training.train_zoo.stacked_blocks import AT_ONCE

TRAINING = 3 * FORWARD  # operations for each image: a forward pass, and a backward pass of twice as many
IMAGES = {"mnist-paper": 2_000, "mnist-tuned": 6_400}  # images that are timed
EPOCH = 50_000  # images of an epoch of either recipe
TARGET = {"mnist-paper": 6, "mnist-tuned": 3}  # times as fast as the peer


def zoo(effort: Effort) -> list[Case]:
    """Time both recipes on noise, which takes as long as images; on a GPU too if there is one."""
    cases = [_case(name, effort) for name in TARGET]
    if torch.cuda.is_available():
        cases += [on_device(name, effort, torch.device("cuda", torch.cuda.current_device())) for name in TARGET]
    return cases


def _case(name: str, effort: Effort) -> Case:
    recipe, cores, count = load_recipe(name).zoo, os.cpu_count() or 1, effort.size(IMAGES[name], 256)
    images = np.random.default_rng(0).standard_normal((count, 1, 28, 28)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 10, count)
    ours, peer = [], []
    _ours(recipe, images, labels, cores)  # compiles the kernels
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(_plain, [(recipe, images[:200], labels[:200])] * cores))  # imports torch in each process
        for _ in range(effort.runs):
            ours.append(_ours(recipe, images, labels, cores))
            began = time.perf_counter()
            list(pool.map(_plain, [(recipe, images, labels)] * cores))
            peer.append(time.perf_counter() - began)
    done = cores * count / EPOCH * 60  # model-epochs of one run, times 60 seconds
    floor = machine.flops() / TRAINING / EPOCH * 60
    reckoned = f"{TRAINING / 1e6:.2f} MFLOP an image at {machine.flops() / 1e9:.0f} GFLOP/s"
    case = f"{name}: model-epochs per minute, batch {recipe.batch}"
    target = f"at least {TARGET[name]} times"
    return Case(case, "1/min", spread(ours, done), spread(peer, done), floor, reckoned, target)


def on_device(name: str, effort: Effort, device: torch.device) -> Case:
    """Time the PyTorch engine on a device, CUDA graph capture included; the share of the floor is the utilisation."""
    recipe, count, models = load_recipe(name).zoo, effort.size(EPOCH, 256), effort.size(AT_ONCE, 2)
    draws = torch.Generator().manual_seed(0)
    data = (
        torch.randn(count, 1, 28, 28, generator=draws).to(device),
        torch.randint(10, (count,), generator=draws).to(device),
    )
    network, own = Network(lambda: cnn(activation=recipe.activation)), replace(recipe, epochs=1, snapshots=())
    weights = torch.stack([initial_weights("default", network.layout, draws) for _ in range(models)])
    plans = [schedule(own, count, draws) for _ in range(models)]
    times = interleaved({"ours": lambda: stacked.train(network, weights, data, plans)}, effort.runs)
    speed = flops_on(device, torch.float32, effort.size(8192, 256))
    reckoned = f"{TRAINING / 1e6:.2f} MFLOP an image at {speed / 1e12:.2f} TFLOP/s (float32) of {described(device)}"
    case = f"{name}: model-epochs per second on {device.type}, batch {recipe.batch}, {models} side by side"
    floor, done = speed / TRAINING / EPOCH, models * count / EPOCH
    return Case(case, "1/s", spread(times["ours"], done), None, floor, reckoned, "none was set")


@lru_cache(maxsize=4)
def flops_on(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Return operations per second of a large matrix product on a device, the best of several; see `machine.flops`."""
    matrix = torch.randn(side, side, device=device).to(dtype)
    times = interleaved({"product": lambda: (matrix @ matrix)[0, 0].item()}, 5)
    return 2 * side**3 / min(times["product"])


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
    """Train one network by a plain PyTorch loop."""
    recipe, images, labels = task
    torch.set_num_threads(1)
    model: nn.Module = cnn(activation=recipe.activation)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for rows in torch.from_numpy(_order(recipe, len(images))):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
