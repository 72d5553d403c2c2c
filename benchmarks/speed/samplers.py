"""Row umap: what the map of the anchors costs."""

from __future__ import annotations

import subprocess
import sys

import torch

import hyperinit
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.samplers import fitted

SOURCE, METHOD = "svhn", "neigh30"
FRESH = f"""
import time, hyperinit
representation = hyperinit.load("{SOURCE}")
began = time.perf_counter()
representation.sample(1, method="{METHOD}")
print(time.perf_counter() - began)
"""


def umap(effort: Effort) -> list[Case]:
    """The first draw of a process, and the later ones against fitting the map at each call."""
    first = [] if effort.small else [_fresh() for _ in range(effort.runs)]
    representation = hyperinit.load(SOURCE)
    anchors, options = representation.anchors, representation.header.samplers

    def refitted() -> torch.Tensor:
        return representation.decode(fitted(METHOD, anchors, options).sample(1, None))

    times = interleaved({"ours": lambda: representation.sample(1, method=METHOD), "refitted": refitted}, effort.runs)
    later = Case(
        f"later {METHOD} draws of one network", "s", spread(times["ours"]), spread(times["refitted"]),
        target="the map is fitted at most once a process",
        note="no floor: UMAP's inverse is its own iteration, in compiled code that is not ours",
    )  # fmt: skip
    return [_first(first), later] if first else [later]


def _first(seconds: list[float]) -> Case:
    return Case(
        f"first {METHOD} draw of a process", "s", spread(seconds),
        target="kept on disk if that pays",
        note="nearly all of it is the import and the compilation of UMAP's own functions, which UMAP does not keep on "
        "disk. A map kept on disk gives the same draws bit for bit, but its first draw took 14.7 s of CPU time against "
        "16.5 s without, so none is kept",
    )  # fmt: skip


def _fresh() -> float:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    return float(done.stdout)
