"""Damaged files are refused with a HyperinitError or load correctly, within the bound of docs/artifact.md.

They are loaded in a separate process, which may crash and whose memory is limited to the bound.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

RUN = Path(__file__).parents[2] / "support" / "fuzz_run.py"
ROOT = RUN.parent.parent.parent
LONGEST = 1.0  # seconds of the processor
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux's /proc"
)


def run(*what):
    done = subprocess.run([sys.executable, str(RUN), *what], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    return run("artifact:500", "ensemble:100", "crafted")


def check(found, count):
    assert found["failures"] == []
    assert found["bytes"] < 100_000
    assert found["longest"][0] < LONGEST
    outcomes = found["outcomes"]
    assert sum(outcomes.values()) == count
    assert outcomes["refused"] > count / 2
    assert outcomes["loaded"] > count / 100  # the checks do not refuse everything
    assert outcomes.get("not made", 0) < count / 20


def test_every_mutant_of_an_artifact_is_refused_or_right(found):
    check(found["artifact:500"], 500)


def test_every_mutant_of_an_ensemble_is_refused_or_right(found):
    check(found["ensemble:100"], 100)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("artifact", 10_000), ("ensemble", 2_000)])
def test_every_one_of_many_mutants_is_refused_or_right(kind, count):
    check(run(f"{kind}:{count}")[f"{kind}:{count}"], count)


LOADED = {
    "many anchors in torch.float8_e5m2", "many anchors in torch.float16", "many anchors in torch.float32",
    "one large network in chunks", "many layers, and all that they call for", "small layers in large chunks",
    "all the depth that is allowed",
}  # fmt: skip


def test_files_that_cost_more_than_they_weigh_are_refused_or_stay_within_the_bound(found):
    found = found["crafted"]
    assert len(found) > 40
    assert {name for name, (_, outcome, _, _) in found.items() if outcome != "refused"} == LOADED
    for name, (size, outcome, seconds, grown) in found.items():
        assert outcome == ("loaded" if name in LOADED else "refused"), name
        assert seconds < 2 * LONGEST, name  # a thousand layers are built in half a second
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
