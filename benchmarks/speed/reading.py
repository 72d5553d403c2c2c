"""Read a folder of checkpoints: seconds and memory.

python -m benchmarks reading
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.record import parser, save
from hyperinit import nets

WIDTHS = (3, *(16,) * 6, *(32,) * 6, *(64,) * 6)  # channels of a plain network as large as ResNet-20
FRESH = """
import json, sys, time
from hyperinit_training.checkpoints.read import read_checkpoints
from hyperinit_training.checkpoints.inspect import inspect_zoo
def memory(field):  # bytes; the peak of getrusage includes the parent process's
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(field))) * 1024
open("/proc/self/clear_refs", "w").write("5")  # reset the peak, so that imports do not count
before = memory("VmRSS")
start, work = time.perf_counter(), time.process_time()
found = read_checkpoints(sys.argv[1])
seconds, work = time.perf_counter() - start, time.process_time() - work
peak = memory("VmHWM")
start = time.perf_counter()
inspect_zoo(found)
row = {"seconds": seconds, "work": work, "grown": peak - before, "matrix": found.weights.numel() * 4}
print(json.dumps(row | {"inspect": time.perf_counter() - start, "values": found.layout.size}))
"""


def plain20() -> nn.Sequential:
    """Return a network of 18 convolutions with BatchNorm and one linear layer, 0.27 M parameters."""
    steps: list[nn.Module] = []
    for before, after in pairwise(WIDTHS):
        steps += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 10))


def main(argv: list[str]) -> None:
    """Measure in fresh processes and write `benchmarks/results/reading.json`."""
    made = parser("reading", __doc__)
    made.add_argument("--runs", type=int, default=3, help="fresh processes for each kind of file")
    made.add_argument("--files", type=int, help="files of each kind; default 1,000 of the CNN and 200 of plain20")
    arguments = made.parse_args(argv)
    began = time.monotonic()
    results = {}
    for name, make, most in (("cnn", nets.cnn, 1000), ("plain20", plain20, 200)):
        count = arguments.files or most
        for suffix in (".pt", ".safetensors"):
            with tempfile.TemporaryDirectory() as folder:
                for index in range(count):
                    _write(Path(folder, f"{index}{suffix}"), make().state_dict())
                rows = [_fresh(folder) for _ in range(arguments.runs)]
            results[f"{count} {name} {suffix}"] = row = _summary(rows)
            print(f"{count} {name} {suffix:12}  {row['read, median s']:6.2f} s, worst {row['read, worst s']:6.2f} s, "
                  f"processor {row['read, median s of processor time']:.2f} s, "
                  f"memory {row['memory, MB']:.0f} MB for a matrix of {row['matrix, MB']:.0f} MB, "
                  f"inspect {row['inspect, median s']:.2f} s")  # fmt: skip
    config = {"runs": arguments.runs, "files": "just written, so in the page cache"}
    print(save("reading", "python -m benchmarks reading", config, results, began, arguments.out).name)


def _write(path: Path, state: dict[str, torch.Tensor]) -> None:
    if path.suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)


def _fresh(folder: str) -> dict[str, float]:
    """Read the folder in a fresh process, so that its peak memory is the reading's."""
    done = subprocess.run([sys.executable, "-c", FRESH, folder], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    seconds = [row["seconds"] for row in rows]
    return {
        "values per network": rows[0]["values"],
        "read, median s": round(statistics.median(seconds), 3),
        "read, worst s": round(max(seconds), 3),
        "read, median s of processor time": round(statistics.median(row["work"] for row in rows), 3),
        "memory, MB": round(max(row["grown"] for row in rows) / 1e6, 1),
        "matrix, MB": round(rows[0]["matrix"] / 1e6, 1),
        "inspect, median s": round(statistics.median(row["inspect"] for row in rows), 3),
        "n": len(rows),
    }
