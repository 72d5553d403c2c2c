"""Load the damaged files of `fuzzing.py` and `crafted.py`, and report outcomes, time and memory.

    python tests/support/fuzz_run.py artifact:10000 ensemble:2000 crafted

The result is JSON. For mutants it has the counts of outcomes (refused, loaded, or loaded and sampling refused), the
longest processor time with the number of that mutant, the largest growth of memory, and the failures. A number always
gives the same mutant. For each file of `crafted.py` it has the size, the outcome, the processor time and the growth of
memory. The memory of the process is limited to the stated bound while it loads. A file that needs more is a failure.
"""

import argparse
import ctypes
import json
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from crafted import artifacts, ensembles
from fuzzing import mutant, seed_file
from safetensors import SafetensorError

from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import HyperinitError
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import gan

TIMES, PLUS = 12, 64 << 20  # the bound of docs/artifact.md: 12 times the file's size + 64 MiB


def use_artifact(hr):
    """Use an artifact that was read. Sampling from it may be refused, everything else must work."""
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


def use_ensemble(ensemble):
    repr(ensemble)
    assert all(value.isfinite().all() for value in ensemble.parameters())
    return "loaded"


LOADERS = {"artifact": (HyperRepresentation.read, use_artifact), "ensemble": (Ensemble.load, use_ensemble)}


def vm(key):
    """A number of /proc/self/status in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0])


def limit(size):
    """Limit the address space to the present one plus the bound for a file of `size` bytes, and reset the peak."""
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory, so that using it again counts as growth
    Path("/proc/self/clear_refs").write_text("5")
    most = vm("VmSize") + TIMES * size + PLUS
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def measured(kind, path, raw):
    """Load one file within the bound; return the outcome, the processor time, and the growth of memory by reading."""
    path.write_bytes(raw)
    load, use = LOADERS[kind]
    limit(len(raw))
    before, began = vm("VmRSS"), time.process_time()
    try:
        made = load(path)
        outcome = ""
    except HyperinitError:
        outcome = "refused"
    except BaseException as error:  # a panic in Rust is a BaseException, not an Exception
        outcome = f"failed: {type(error).__name__}: {str(error)[:300]}"
    grown = max(0, vm("VmHWM") - before)
    try:
        outcome = outcome or use(made)
    except BaseException as error:
        outcome = f"failed in use: {type(error).__name__}: {str(error)[:300]}"
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return outcome, time.process_time() - began, grown


def run_mutants(kind, path, count):
    """Load mutants. Any outcome but a HyperinitError or a correct load is a failure."""
    found, failures, longest, grown = Counter(), [], (0.0, 0), 0
    seed_file(kind, path)
    raw = path.read_bytes()
    assert measured(kind, path, raw)[0] == "loaded"
    for place in range(count):
        try:
            name, changed = mutant(raw, place)
        except (ValueError, SafetensorError):  # the mutant cannot be written as a file
            found["not made"] += 1
            continue
        outcome, seconds, growth = measured(kind, path, changed)
        if outcome.startswith("failed"):
            failures.append(f"{place} {name} {outcome}")
        longest, grown = max(longest, (seconds, place)), max(grown, growth)
        found[outcome.partition(":")[0]] += 1
    return {
        "bytes": len(raw), "outcomes": dict(sorted(found.items())), "longest": longest, "grown": grown,
        "failures": failures,
    }  # fmt: skip


def run_crafted(path):
    """Load every crafted file; return its size, the outcome, the processor time and the growth of memory."""
    seed_file("artifact", path)
    assert measured("artifact", path, path.read_bytes())[0] == "loaded"
    files = [("artifact", *made) for made in artifacts(path)] + [("ensemble", *made) for made in ensembles()]
    return {name: (len(raw), *measured(kind, path, raw)) for kind, name, raw in files}


def main(what):
    gan.GENERATOR = (4, 4, 4)  # else a trained sampler takes 340 kB
    kind, _, count = what.partition(":")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / "mutant.safetensors"
        return run_crafted(path) if kind == "crafted" else run_mutants(kind, path, int(count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="artifact:COUNT, ensemble:COUNT or crafted")
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps({what: main(what) for what in parser.parse_args().what}) + "\n")
