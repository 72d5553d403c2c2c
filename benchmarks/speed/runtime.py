"""Rows import, init, decode and ensemble: the runtime of the library."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import hyperinit
from benchmarks.speed import machine
from benchmarks.speed.timing import Case, Effort, interleaved, spread

SOURCE = "svhn"
FORWARD = 2 * (8 * 25 * 576 + 6 * 8 * 25 * 64 + 4 * 6 * 4 * 9 + 20 * 36 + 10 * 20)  # operations of the one-channel CNN
FRESH = """
import sys, time, torch
before = set(sys.modules)
began = time.perf_counter()
import hyperinit
imported = time.perf_counter()
names = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"sklearn", "scipy", "umap", "requests", "matplotlib", "numba", "pandas"} & names
model = hyperinit.nets.cnn()
start = time.perf_counter()
hyperinit.init_(model, "svhn")
print(imported - began, time.perf_counter() - start, len(heavy))
"""


def importing(effort: Effort) -> list[Case]:
    """Time `import hyperinit` after torch, in fresh processes."""
    found = [_fresh() for _ in range(2 * effort.runs + 1)][1:]
    heavy = max(number for _, _, number in found)
    note = "no heavy module is loaded" if not heavy else f"{heavy:.0f} heavy modules are loaded"
    return [
        Case("import hyperinit after torch", "s", spread([a for a, _, _ in found]), target="at most 0.05 s", note=note)
    ]


def initialising(effort: Effort) -> list[Case]:
    """Time `init_` on the zoo's CNN beside `torch.nn.init` and a checkpoint, and the first call of a process."""
    model = hyperinit.nets.cnn()
    layers = [part for part in model if isinstance(part, nn.Conv2d | nn.Linear)]

    def normal() -> None:
        for part in layers:
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        save_file(model.state_dict(), path)
        times = interleaved(
            {
                "ours": lambda: hyperinit.init_(model, SOURCE),
                "torch.nn.init": normal,
                "checkpoint": lambda: model.load_state_dict(load_file(path)),
            },
            runs=4 * effort.runs,
            repeat=5,
        )
    first = [second for _, second, _ in (_fresh() for _ in range(effort.runs))]
    ours, target = spread(times["ours"]), "at most 0.005 s"
    return [
        Case("warm init_, against torch.nn.init", "s", ours, spread(times["torch.nn.init"]), target=target),
        Case("warm init_, against load_state_dict of a file", "s", ours, spread(times["checkpoint"]), target=target),
        Case("first init_ of a process", "s", spread(first), target="at most 0.3 s"),
    ]


def decoding(effort: Effort) -> list[Case]:
    """Time decoding of 1,000 networks at once beside one by one."""
    representation = hyperinit.load(SOURCE)
    count, few = effort.size(1000, 20), effort.size(100, 2)
    z = representation.anchors.z[torch.randint(len(representation.anchors), (count,))]
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: representation.decode(z),
        "one by one": lambda: [representation.decode(row[None]) for row in z[:few]],
    }
    times = interleaved(calls, effort.runs)
    tokens = sum(layer.neurons for layer in representation.layout.layers)
    sizes = {name: value.numel() for name, value in representation.autoencoder.decoder.named_parameters()}
    weights = sum(size for name, size in sizes.items() if name.startswith("blocks."))  # used once for each token
    operations = 2 * weights * tokens + 2 * sum(size for name, size in sizes.items() if "expand" in name)
    return [
        Case(
            f"networks decoded per second, {count:,} at once", "1/s", spread(times["ours"], count),
            spread(times["one by one"], few), machine.flops() / operations,
            f"{operations / 1e6:.0f} MFLOP a network at {machine.flops() / 1e9:.0f} GFLOP/s",
            "at least 1,000 / s and 10 times one by one",
            f"1,000 a second need {operations / 1e6:.0f} GFLOP/s. One network alone is already {tokens} rows of a "
            "product, so what is saved is calls and the reading of weights, not arithmetic: the floor itself is only "
            f"{machine.flops() / operations * statistics.median(times['one by one']) / few:.1f} times one by one. "
            "Seven tenths of the time are those products, near the peak; attention, norms and GELU are the rest, and "
            "blocks written by hand were no faster than PyTorch's",
        )
    ]  # fmt: skip


def ensembles(effort: Effort) -> list[Case]:
    """Time the forward pass of an ensemble of 15 beside a loop over its members."""
    ensemble = hyperinit.ensemble(15, SOURCE).eval()
    cases = []
    for batch in (1, 4) if effort.small else (1, 64, 1024):
        x = torch.randn(batch, 1, 28, 28)

        def loop(x: torch.Tensor = x) -> torch.Tensor:
            return torch.stack([member(x).softmax(1) for member in ensemble.members]).mean(0).log()

        with torch.no_grad():
            torch.testing.assert_close(ensemble(x), loop(), rtol=1e-4, atol=1e-5)
            times = interleaved(
                {"ours": partial(ensemble, x), "loop": loop}, runs=2 * effort.runs, repeat=max(1, 64 // batch)
            )
        floor = 15 * batch * FORWARD / machine.flops()
        reckoned = f"{FORWARD / 1e6:.2f} MFLOP an image and member at {machine.flops() / 1e9:.0f} GFLOP/s"
        target = "never slower" + ", at least 2 times" * (batch <= 64)
        cases.append(
            Case(
                f"15 members, batch {batch}",
                "s",
                spread(times["ours"]),
                spread(times["loop"]),
                floor,
                reckoned,
                target,
                "a convolution of 5x5 with one channel, or in groups of eight and six, fills no vector registers"
                + ", and a call costs more than its arithmetic" * (batch == 1),
            )
        )
    return cases


def _fresh() -> tuple[float, float, float]:
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, each process compiles hyperinit again, in 40 ms
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=environment)
    first, second, heavy = map(float, done.stdout.split())
    return first, second, heavy
