"""What the loaders make of the hostile files of `fuzzing.py`.

    python tests/hyperinit/fuzz_run.py artifact --count 10000
    python tests/hyperinit/fuzz_run.py ensemble --count 1000

prints a JSON object: how many mutants were refused, loaded, or loaded and refused to draw; the longest processor time
of one with its number; the largest growth of memory; and the failures. Mutant number i of a seed is always the same
bytes. The process cannot take more memory than the stated bound: a mutant that asks for more is a failure.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from fuzzing import mutant, seed_file
from safetensors import SafetensorError

from hyperinit.ensemble import Ensemble
from hyperinit.errors import HyperinitError
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import gan

TIMES, PLUS = 16, 128 << 20  # the bound of docs/artifact.md: 16 times the file's size + 128 MiB


def load_artifact(path):
    """Refused, or all of it works."""
    try:
        hr = HyperRepresentation.read(path)
    except HyperinitError:
        return "refused"
    str(hr.card).encode()
    assert hr.methods()
    slow = hr.card.recommended.startswith("neigh")  # UMAP takes seconds at its first use
    try:
        weights = hr.sample(2, method="kde30" if slow else None, generator=torch.Generator().manual_seed(0))
    except HyperinitError:
        return "loaded, draw refused"
    assert weights.shape == (2, hr.layout.size)
    assert weights.isfinite().all()
    if hr.header.architecture is not None:
        hr.build_model(weights[0])
    return "loaded"


def load_ensemble(path):
    try:
        ensemble = Ensemble.load(path)
    except HyperinitError:
        return "refused"
    repr(ensemble)
    assert all(value.isfinite().all() for value in ensemble.parameters())
    return "loaded"


def vm(key):
    """A number of /proc/self/status in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0])


def limit(size):
    """Let the process have the bound of a file of `size` bytes beyond what it has now, and forget its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    most = vm("VmSize") + TIMES * size + PLUS
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run(kind, count, seed, start=0):
    """Feed mutants to a loader; anything but its own error or a correct load is a failure."""
    load = {"artifact": load_artifact, "ensemble": load_ensemble}[kind]
    gan.GENERATOR = (4, 4, 4)  # else a trained sampler takes 340 kB
    found, failures, longest, grown = Counter(), [], (0.0, 0), 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / "mutant.safetensors"
        seed_file(kind, path)
        raw = path.read_bytes()
        assert load(path) == "loaded"
        for place in range(start, start + count):
            try:
                name, changed = mutant(raw, seed, place)
            except (ValueError, SafetensorError):  # no such file can be written
                found["not made"] += 1
                continue
            path.write_bytes(changed)
            limit(len(changed))
            before, began = vm("VmRSS"), time.process_time()
            try:
                outcome = load(path)
            except BaseException as error:
                outcome = "failed"
                failures.append(f"{place} {name}: {type(error).__name__}: {str(error)[:300]}")
            longest = max(longest, (time.process_time() - began, place))
            grown = max(grown, vm("VmHWM") - before)
            found[outcome] += 1
            found[f"{name}: {outcome}"] += 1
    return {
        "bytes": len(raw), "outcomes": dict(sorted(found.items())), "longest": longest, "grown": grown,
        "failures": failures,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["artifact", "ensemble"])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(run(**vars(arguments)), indent=1) + "\n")
