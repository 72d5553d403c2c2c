"""Rows autoencoder and augment: a training step of the autoencoder, and the augmentation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import machine
from benchmarks.speed.peers import ItemViews, PlainTraining
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from benchmarks.speed.zoos import flops_on
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.machine.devices import described
from hyperinit_training.recipes.autoencoder import AutoencoderRecipe, table8
from hyperinit_training.train_autoencoder.augment import PermutationAugmentation, erase_
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.zoo.zoo import Snapshot, Zoo

SNAPSHOTS = 256
PERMUTATIONS = 5000  # of both; the peer's lists take 0.4 GB
UPDATE = 28  # bytes that AdamW reads and writes at least for each float32 parameter
PEAK = """
from benchmarks.speed.autoencoders import KINDS, noise, recipe
training = KINDS[{kind!r}](recipe({size!r}, {batch}, {small}), noise())
for _ in range(2):
    training.advance()
"""
KINDS = {"ours": Training, "peer": PlainTraining}
TITLES = {"table8": "Table 8's size for MNIST (CLS)", "compact": "compact default"}


def recipe(size: str, batch: int, small: bool) -> AutoencoderRecipe:
    """Return the recipe of one case: "table8" or "compact"."""
    if size == "table8":
        found = replace(table8("mnist", 3500), compression="cls", batch=batch, permutations=PERMUTATIONS)
        width = 24
    else:  # as in the peer, every view is permuted and is reconstructed as it is
        found = AutoencoderRecipe(batch=batch, align=False, permuted=1.0, target="view", latent_noise=0.0)
        width = 16
    return replace(found, permutations=10, depth=1, width=width, feedforward=16, latent=8) if small else found


def noise() -> Zoo:
    """Return a zoo of random weights, which takes as long to train on as any other."""
    layout = Layout.of(cnn())
    weights = 0.1 * torch.randn(SNAPSHOTS, layout.size, generator=torch.Generator().manual_seed(0))
    return Zoo(layout, weights, tuple(Snapshot(i, i, 1.0, "train", 0.5, 0.5) for i in range(SNAPSHOTS)), None, {})


def autoencoder(effort: Effort) -> list[Case]:
    """Time a step at the paper's size and at the default one, with memory; on a GPU too if there is one."""
    sizes = [("table8", 16), ("table8", 64), ("compact", 64)]
    cases = [case for size, batch in sizes for case in _step(size, effort.size(batch, 4), effort)]
    if torch.cuda.is_available():
        gpu = torch.device("cuda", torch.cuda.current_device())
        cases += [on_device(size, effort.size(batch, 4), effort, gpu) for size, batch in sizes]
    return cases


def on_device(size: str, batch: int, effort: Effort, device: torch.device) -> Case:
    """Time a step on a device; the share of the floor is the utilisation."""
    training = Training(recipe(size, batch, effort.small), noise(), device=device)
    with FlopCounterMode(display=False) as counter:
        training.advance()
    times = interleaved({"ours": lambda: training.advance().total.item()}, effort.runs, repeat=effort.size(10, 1))
    operations, speed = counter.get_total_flops(), flops_on(device, training.dtype, effort.size(8192, 256))
    dtype = str(training.dtype).removeprefix("torch.")
    reckoned = f"{operations / 1e9:.1f} GFLOP at {speed / 1e12:.2f} TFLOP/s ({dtype}) of {described(device)}"
    case = f"{TITLES[size]}, batch {batch}: a step on {device.type}"
    return Case(case, "s", spread(times["ours"]), None, operations / speed, reckoned, "none was set")


def _step(size: str, batch: int, effort: Effort) -> list[Case]:
    chosen, zoo = recipe(size, batch, effort.small), noise()
    trainings = {kind: make(chosen, zoo) for kind, make in KINDS.items()}
    times = interleaved({kind: training.advance for kind, training in trainings.items()}, effort.runs)
    ours = trainings["ours"]
    assert isinstance(ours, Training)
    with FlopCounterMode(display=False) as counter:
        ours.advance()
    operations, speed = counter.get_total_flops(), machine.flops(ours.dtype)
    parameters = sum(value.numel() for group in ours.optimizer.param_groups for value in group["params"])
    floor = operations / speed + UPDATE * parameters / machine.bandwidth()
    dtype = str(ours.dtype).removeprefix("torch.")
    reckoned = (
        f"{operations / 1e9:.0f} GFLOP at {speed / 1e9:.0f} GFLOP/s ({dtype}), and AdamW's {UPDATE} bytes for each of "
        f"{parameters / 1e6:.1f} M parameters at {machine.bandwidth() / 1e9:.0f} GB/s"
    )
    faster = machine.flops(ours.dtype) / machine.flops()
    note = f"products in {dtype} are {faster:.1f} times as fast as the peer's in float32 here, which bounds the ratio"
    target = "at least 4 times" if size == "table8" else ""
    case = f"{TITLES[size]}, batch {batch}: a step"
    memory = _memory(size, batch, effort, 4 * 4 * parameters / 2**20) if size == "table8" else []
    seconds = {kind: spread(found) for kind, found in times.items()}
    return [Case(case, "s", seconds["ours"], seconds["peer"], floor, reckoned, target, note), *memory]


def _memory(size: str, batch: int, effort: Effort, floor: float) -> list[Case]:
    """Measure the peak memory of two steps, once for each in a fresh process, because it hardly varies."""
    sizes = {"size": size, "batch": batch, "small": effort.small}
    peaks = {kind: machine.peak_memory(PEAK.format(kind=kind, **sizes)) for kind in KINDS}
    reckoned = "float32 parameters, gradients and AdamW's two moments; no Python, no PyTorch, no feature map"
    note = "both keep that floor, and PyTorch itself, so only what lies above it can be saved"
    return [
        Case(
            f"{TITLES[size]}, batch {batch}: peak memory", "MiB", spread([peaks["ours"]]), spread([peaks["peer"]]),
            floor, reckoned, "at most half", note,
        )
    ]  # fmt: skip


def augment(effort: Effort) -> list[Case]:
    """Time permuted and erased views."""
    layout, batch = Layout.of(cnn()), effort.size(500, 8)
    count, few = effort.size(PERMUTATIONS, 10), effort.size(100, 4)
    weights, generator = torch.randn(batch, layout.size), torch.Generator().manual_seed(0)
    ours, peer = PermutationAugmentation(layout, count, generator), ItemViews(layout, count)
    times = interleaved(
        {
            "ours": lambda: [erase_(ours(weights, generator), generator) for _ in range(2)],
            "peer": lambda: peer(weights[:few]),
        },
        effort.runs,
    )
    moved = 10 * layout.size  # bytes: weights and indices read, a view written
    reckoned = f"{moved / 1e3:.1f} kB a view (weights, int16 indices, result) at {machine.bandwidth() / 1e9:.0f} GB/s"
    return [
        Case(
            f"views per second, batch {batch}, {count:,} permutations", "1/s", spread(times["ours"], 2 * batch),
            spread(times["peer"], 2 * few), machine.bandwidth() / moved, reckoned, "at least 100 times",
            "one thread gathers, an index at a time, so arithmetic and not memory bounds it. The peer pays for a list "
            "of indices that becomes a tensor at each view; the released code has 25,000 permutations, whose lists "
            "take 2 GB and make the peer a fifth slower than it is here",
        )
    ]  # fmt: skip
