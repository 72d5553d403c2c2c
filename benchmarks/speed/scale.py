"""Row scale: time for each network, and memory, of larger zoos and larger samples."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch

import hyperinit
from benchmarks.speed import machine
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_zoo import compiled_cnn
from hyperinit_training.train_zoo.schedules import Schedule

SOURCE = "svhn"
STEPS, BATCH = 10, 10  # of each network's training
ZOOS, DRAWS = (10, 100, 1000), (10, 100, 1000, 10_000)
PEAK = """
from benchmarks.speed import scale
scale.{call}({count})
"""


def scale(effort: Effort) -> list[Case]:
    """Measure time and memory of each size beside the smallest."""
    zoos, draws = ((2, 4), (2, 4)) if effort.small else (ZOOS, DRAWS)
    return [
        *_cases("zoo of {:,} models, 10 steps each", zoo, zoos, effort),
        *_cases("{:,} networks decoded", decode, draws, effort),
    ]


def zoo(count: int) -> np.ndarray:
    """Train `count` networks for `STEPS` steps, a thread for each core; returns weights (count, D)."""
    weights, images, labels, plan = _problem()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        trained = pool.map(lambda _: compiled_cnn.train(weights, images, labels, plan)[0][-1], range(count))
        return np.stack(list(trained))


def decode(count: int) -> torch.Tensor:
    """Decode `count` anchors of the source, drawn with replacement; returns weights (count, D)."""
    representation = hyperinit.load(SOURCE)
    rows = torch.randint(len(representation.anchors), (count,))
    return representation.decode(representation.anchors.z[rows])


@lru_cache(maxsize=1)
def _problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, Schedule]:
    random = np.random.default_rng(0)
    images = random.standard_normal((STEPS * BATCH, 1, 28, 28)).astype(np.float32)
    order = random.permutation(len(images)).reshape(STEPS, BATCH)
    plan = Schedule(order=order, rates=np.full(STEPS, 1e-3, np.float32))
    return Layout.of(cnn()).flatten(cnn().state_dict()).numpy(), images, random.integers(0, 10, len(images)), plan


def _cases(title: str, call: Callable[[int], object], counts: tuple[int, ...], effort: Effort) -> list[Case]:
    times = interleaved({str(count): partial(call, count) for count in counts}, effort.runs)
    seconds = {count: spread([value / count for value in times[str(count)]]) for count in counts}
    codes = {count: PEAK.format(call=call.__name__, count=count) for count in counts}
    peaks = {count: spread([machine.peak_memory(code)]) for count, code in codes.items()}
    least = counts[0]
    cases = []
    for count in counts:
        name, against = title.format(count), f"the peer is the same with {least}"
        cases += [
            Case(f"{name}: seconds for each", "s", seconds[count], seconds[least],
                 target="no more for each than in the smallest", note=against),
            Case(f"{name}: peak memory", "MiB", peaks[count], peaks[least],
                 target="bounded", note=f"{against}; the result itself takes 9.6 kB for each"),
        ]  # fmt: skip
    return cases
