"""Damaged files are refused with a HyperinitError or load and work correctly, within the bound of docs/artifact.md.

They are loaded and used in a separate process, which may crash and whose memory is limited to the bound. With
`HYPERINIT_RELIABILITY=FILE` the counts are written under the key "fuzz" of that JSON file, for docs/reliability.md.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import figures
import fuzzing
import pytest

RUN = Path(__file__).parents[2] / "support" / "fuzz_run.py"
ROOT = RUN.parent.parent.parent
LONGEST, LONGEST_USE = 1.0, 10.0  # seconds of the processor to load a file, and to use it in every way
QUICK = {"artifact": 150, "chunked": 50, "reference": 50, "ensemble": 50}  # mutants of each kind
ALL = {"artifact": 8000, "chunked": 1000, "reference": 1000, "ensemble": 2000}
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux's /proc"
)


def run(*what):
    done = subprocess.run([sys.executable, str(RUN), *what], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    return run(*(f"{kind}:{count}" for kind, count in QUICK.items()), "crafted")


def check(found, count):
    assert found["failures"] == []
    assert found["bytes"] < 100_000
    load, use = (seconds for seconds, _ in found["longest"])
    assert load < LONGEST
    assert use < LONGEST_USE
    outcomes = found["outcomes"]
    assert sum(outcomes.values()) == count
    assert outcomes["refused"] > count / 2
    assert outcomes["loaded"] > count / 100  # the checks do not refuse everything
    assert outcomes.get("not made", 0) < count / 20


@pytest.mark.parametrize(("kind", "count"), QUICK.items())
def test_every_mutant_is_refused_or_can_be_used(found, kind, count):
    check(found[f"{kind}:{count}"], count)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), ALL.items())
def test_every_one_of_many_mutants_is_refused_or_can_be_used(kind, count):
    many = run(f"{kind}:{count}", "--neigh")[f"{kind}:{count}"]
    report(kind, many)
    check(many, count)


@pytest.mark.slow
def test_files_that_cost_much_to_use_are_refused_or_take_seconds():
    found = run("costly")["costly"]
    report("costly", {"outcomes": {name: outcome for name, (_, outcome, _, _) in found.items()}})
    for name, (size, outcome, (load, use), grown) in found.items():
        assert outcome in ("refused", "loaded"), name
        assert load < LONGEST, name
        assert use < 60, name
        assert grown <= 12 * size + (64 << 20), name
    assert sum(outcome == "refused" for _, outcome, _, _ in found.values()) > 3


def report(kind, found):
    """Record the result of one kind."""
    figures.record("fuzz", kind, **found)


LOADED = {
    "many anchors in torch.float8_e5m2", "many anchors in torch.float16", "many anchors in torch.float32",
    "one large network in chunks", "many layers, and all that they call for", "small layers in large chunks",
    "all the depth that is allowed",
    *(f"padded chunks in torch.{dtype}" for dtype in (
        "float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64",
    )),
}  # fmt: skip


def test_files_that_cost_more_than_they_weigh_are_refused_or_stay_within_the_bound(found):
    found = found["crafted"]
    assert len(found) > 40
    assert {name for name, (_, outcome, _, _) in found.items() if outcome != "refused"} == LOADED
    for name, (size, outcome, (load, use), grown) in found.items():
        assert outcome == ("loaded" if name in LOADED else "refused"), name
        assert load < 2 * LONGEST, name  # a thousand layers are built in half a second
        assert use < LONGEST_USE, name
        assert grown <= 12 * size + (64 << 20), name


def test_the_bound_that_is_measured_is_the_one_that_is_stated():
    times, plus = re.search(r"TIMES, PLUS = (\d+), (\d+) << 20", RUN.read_text()).groups()
    stated = (ROOT / "docs" / "artifact.md").read_text()
    assert f"{times} times the file's size + {plus} MiB" in stated


def test_mutants_are_the_same_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing.gan, "GENERATOR", (4, 4, 4))
    files = []
    for name in "ab":
        fuzzing.seed_file("artifact", tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert [fuzzing.mutant(files[0], i) for i in range(20)] == [fuzzing.mutant(files[1], i) for i in range(20)]
