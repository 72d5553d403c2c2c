"""Row umap: sampling by a UMAP map of the anchors."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from unittest import mock

import torch

import hyperinit
from benchmarks.speed.timing import Case, Effort, interleaved, spread
from hyperinit.samplers import fitted, neigh_maps

SOURCE, METHOD = "svhn", "neigh30"
FRESH = f"""
import time, hyperinit
representation = hyperinit.load("{SOURCE}")
began = time.perf_counter()
representation.sample(1, method="{METHOD}")
print(time.perf_counter() - began)
"""


def umap(effort: Effort) -> list[Case]:
    """Time the first sample of a process, and later ones beside fitting the map at each call."""
    from umap import UMAP  # imported here: the import takes seconds

    runs = 0 if effort.small else effort.runs
    with TemporaryDirectory() as home:
        if runs:
            _fresh(home)  # fits the map and writes it to disk
        first = [(_fresh(home), _fresh(f"{home}/{turn}")) for turn in range(runs)]
    representation = hyperinit.load(SOURCE)
    anchors, options = representation.anchors, representation.header.samplers

    def refitted() -> torch.Tensor:
        # Fit the map at each call, instead of reading it from disk.
        with mock.patch.object(neigh_maps, "fitted", lambda z, settings: UMAP(**settings).fit(z)):
            return representation.decode(fitted(METHOD, anchors, options).sample(1, None))

    times = interleaved({"ours": lambda: representation.sample(1, method=METHOD), "refitted": refitted}, effort.runs)
    later = Case(
        f"later {METHOD} draws of one network", "s", spread(times["ours"]), spread(times["refitted"]),
        target="the map is fitted at most once a process",
        note="no floor: UMAP's inverse is its own iteration, in compiled code that is not ours",
    )  # fmt: skip
    return [_first(*map(list, zip(*first, strict=True))), later] if first else [later]


def _first(kept: list[float], new: list[float]) -> Case:
    return Case(
        f"first {METHOD} draw of a process, map on disk", "s", spread(kept), spread(new),
        target="kept on disk if that pays",
        note="the peer is a process that finds no map in the cache folder. The draws are the same bit for bit; what is "
        "left is the import of UMAP and the compilation of its inverse, which UMAP does not keep on disk. The fit "
        "itself takes 0.1 s: what a kept map saves is the compilation of the fit, some 10 s of CPU time",
    )  # fmt: skip


def _fresh(home: str) -> float:
    environment = {**os.environ, "HYPERINIT_HOME": home}
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)
