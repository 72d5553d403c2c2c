"""Load the damaged files of `fuzzing.py` and `crafted.py`, use those that load, and report outcomes, time and memory.

    python tests/support/fuzz_run.py artifact:10000 chunked:1000 reference:1000 ensemble:2000 crafted

The result is JSON. For mutants it has the counts of outcomes (refused, loaded and every use worked, or loaded and some
uses were refused), the longest processor times of loading and of all uses with the number of that mutant, the largest
growth of memory by loading, how often each use was refused, and the failures. A number always gives the same mutant.
For each file of `crafted.py` it has the size, the outcome, both processor times and the growth of memory. The memory of
the process is limited to the stated bound while it loads, and to MOST_USED while the file is used. A file that needs
more is a failure, and so is every error that is no HyperinitError. With `--neigh`, some files are used with UMAP, too.
"""

import argparse
import ctypes
import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from crafted import artifacts, ensembles
from crafted import costly as costly_files
from fuzzing import mutant, seed_file
from safetensors import SafetensorError
from whole_way import use_artifact, use_ensemble, use_once

from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import HyperinitError, MismatchWarning, UnusableWarning
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import gan

TIMES, PLUS = 12, 64 << 20  # the bound of docs/artifact.md: 12 times the file's size + 64 MiB
MOST_USED = 4 << 30  # bytes while a file is used
EVERY = 100  # of so many mutants, one is drawn from by UMAP as well if it loads; that takes seconds


def vm(key):
    """A number of /proc/self/status in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0])


def limit(most):
    """Limit the address space to the present one plus `most` bytes, and reset the peak."""
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory, so that using it again counts as growth
    Path("/proc/self/clear_refs").write_text("5")
    resource.setrlimit(resource.RLIMIT_AS, (vm("VmSize") + most, resource.RLIM_INFINITY))


def measured(kind, path, raw, *, neigh=False):
    """Load one file within the bound, and use it.

    Return the outcome, the refused uses, the processor times of loading and of the uses, and the growth by loading.
    """
    path.write_bytes(raw)
    load = Ensemble.load if kind == "ensemble" else HyperRepresentation.read
    use = {"ensemble": use_ensemble, "once": use_once}.get(kind, use_artifact)
    made, refused = None, []
    limit(TIMES * len(raw) + PLUS)
    before, began = vm("VmRSS"), time.process_time()
    try:
        made = load(path)
        outcome = "loaded"
    except HyperinitError:
        outcome = "refused"
    except BaseException as error:  # a panic in Rust is a BaseException, not an Exception
        outcome = f"failed: {type(error).__name__}: {str(error)[:300]}"
    loaded, grown = time.process_time(), max(0, vm("VmHWM") - before)
    try:
        if made is not None:
            limit(MOST_USED)
            refused = use(made, path, **({"neigh": True} if neigh else {}))
            outcome = "loaded, some uses refused" if refused else outcome
    except BaseException as error:
        notes = "; ".join(getattr(error, "__notes__", []))
        outcome = f"failed in use: {type(error).__name__}: {str(error)[:300]} {notes} {_where(error)}"
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return outcome, refused, (loaded - began, time.process_time() - loaded), grown


def _where(error):
    """The last places in our own code that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1][:4])


def run_mutants(kind, path, count, *, neigh):
    """Load and use mutants. Any outcome but a HyperinitError or a correct use is a failure."""
    found, uses, failures, longest, grown = Counter(), Counter(), [], [(0.0, 0), (0.0, 0)], 0
    seed_file(kind, path)
    raw = path.read_bytes()
    first = measured(kind, path, raw)[0]
    assert first.startswith("loaded"), first
    for place in range(count):
        try:
            name, changed = mutant(raw, place)
        except (ValueError, SafetensorError):  # the mutant cannot be written as a file
            found["not made"] += 1
            continue
        umap = neigh and kind != "ensemble" and found.total() % EVERY == 0
        outcome, refused, seconds, growth = measured(kind, path, changed, neigh=umap)
        if outcome.startswith("failed"):
            failures.append(f"{place} {name} {outcome}")
        uses.update(line.partition(":")[0] for line in refused)
        pairs = zip(longest, seconds, strict=True)
        longest = [old if umap else max(old, (new, place)) for old, new in pairs]
        grown = max(grown, growth)
        found[outcome.partition(":")[0]] += 1
    return {
        "bytes": len(raw), "outcomes": dict(sorted(found.items())), "longest": longest, "grown": grown,
        "refused uses": dict(sorted(uses.items())), "failures": failures,
    }  # fmt: skip


def run_crafted(path, costly):
    """Load every crafted file, or every costly one; return size, outcome, processor times and growth of memory."""
    seed_file("artifact", path)
    assert measured("artifact", path, path.read_bytes())[0].startswith("loaded")
    if costly:
        files = [("once", *made) for made in costly_files(path)]
    else:
        files = [("once", *made) for made in artifacts(path)] + [("ensemble", *made) for made in ensembles()]
    found = {}
    for kind, name, raw in files:
        outcome, _, seconds, grown = measured(kind, path, raw)
        found[name] = (len(raw), outcome, seconds, grown)
    return found


def main(what, *, neigh):
    gan.GENERATOR = (4, 4, 4)  # else a trained sampler takes 340 kB
    kind, _, count = what.partition(":")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in (MismatchWarning, UnusableWarning):  # these files suit no module, and some cards say so
            warnings.simplefilter("ignore", known)
        path = Path(folder) / "mutant.safetensors"
        if kind in ("crafted", "costly"):
            return run_crafted(path, kind == "costly")
        return run_mutants(kind, path, int(count), neigh=neigh)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="+", help="KIND:COUNT, for artifact, chunked, reference and ensemble, or crafted, or costly"
    )
    parser.add_argument("--neigh", action="store_true", help="draw by UMAP from some of the loaded mutants, too")
    torch.set_num_threads(1)
    given = parser.parse_args()
    sys.stdout.write(json.dumps({what: main(what, neigh=given.neigh) for what in given.what}) + "\n")
