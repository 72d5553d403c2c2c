"""Faults in the large: `hyperinit zoo`, `pretrain` and `train` are killed, their files damaged, their disk filled.

After each fault the same command is given again. It must end with the result of an undisturbed run, or with a message
that says what is wrong. With HYPERINIT_RELIABILITY=FILE the figures are written into a JSON file.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import figures
import own_zoo
import pytest
import torch
from flips import flipped
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
KILLS, FLIPS, LIMITS, ROUNDS = 20, 6, 8, 4
TIMELESS = ("date", "seconds", "digest", "sha256", "seconds per step")  # and digests of files that hold them
RECIPE = """
title = "Little digits"
[zoo]
images = "digits"
models = 12
families = 4
epochs = 1
branch_epochs = 1
limit = 128
[autoencoder]
width = 16
heads = 2
feedforward = 32
depth = 1
latent = 8
batch = 8
steps = 40
permutations = 20
"""
COMMANDS = {
    "zoo": ["zoo", "--recipe", "little.toml", "--out", "zoo"],
    "pretrain": ["pretrain", "--recipe", "little.toml", "--run", "run", "--out", "out/mine.safetensors"],
    "train": [
        "train", "--zoo", "nets", "--model", "own_zoo:make_net", "--evaluate", "own_zoo:accuracy", "--input", "1x8x8",
        "--preset", "tiny", "--minutes", "0.005", "--run", "run", "--out", "out/mine.safetensors",
    ],
}  # fmt: skip
KEPT = ("zoo", "run", "out")  # what the commands write
pytestmark = pytest.mark.slow


class Server:
    """The process of tests/support/fault_run.py."""

    def __init__(self):
        path = os.pathsep.join(map(str, (ROOT, ROOT / "training", ROOT / "tests" / "support")))
        settings = {
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            "NUMBA_THREADING_LAYER": "workqueue",
            "PYTHONPATH": path,
            "HYPERINIT_PROGRESS": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "support" / "fault_run.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings,
        )  # fmt: skip
        assert self.process.stdout.readline() == "warm\n"

    def run(self, *runs):
        """Start runs together, and return how each ended: its exit code, its seconds, and what it said."""
        self.process.stdin.write(json.dumps([run | {"cwd": str(run["cwd"])} for run in runs]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def record():
    """Return a function that writes what happened under a fault."""
    return lambda command, fault, **found: figures.record("commands", command.name, fault, **found)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder with what every command starts from."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "little.toml").write_text(RECIPE)
    own_zoo.write(folder / "nets")
    return folder


@pytest.fixture(scope="module", params=COMMANDS)
def command(request, server, start, tmp_path_factory):
    """A command, with its undisturbed result and the seconds that it took."""
    return Command(request.param, server, start, tmp_path_factory)


class Command:
    """One command line, and its places."""

    def __init__(self, name, server, start, factory):
        self.name, self.argv, self.server, self.start, self.factory = name, COMMANDS[name], server, start, factory
        if name == "train":  # the number of steps is measured, so all runs go on from one measurement
            number, place = 1, self.place()
            while not (place / "run" / "steps.json").exists():
                number, place = number + 1, self.place()
                self.once(place, die_at_write=number)
            self.start = place
        whole = self.place()
        [end] = self.once(whole)
        assert end["code"] == 0, end["said"]
        self.seconds, self.expected = end["seconds"], result(whole)

    def place(self, source=None):
        folder = self.factory.mktemp("place") / "work"
        shutil.copytree(source or self.start, folder)
        return folder

    def once(self, place, **fault):
        return self.server.run({"argv": self.argv, "cwd": place, **fault})

    def finish(self, place):
        """Give the command again, and compare the result.

        A run that is killed between the artifact and the record of it refuses to replace the artifact without --force.
        """
        [end] = self.once(place)
        if end["code"] == 1 and "--force" in end["said"]:
            [end] = self.server.run({"argv": [*self.argv, "--force"], "cwd": place})
        assert end["code"] == 0, end["said"]
        assert result(place) == self.expected

    def settled(self, place, end):
        """Tell whether a run ended with the same result ("same") or a clear message ("refused"); all else fails."""
        if end["code"] == 0:
            assert result(place) == self.expected
            return "same"
        assert end["code"] == 1, end["said"]
        assert any(line.startswith("hyperinit: ") for line in end["said"].splitlines()), end["said"]
        assert "Traceback" not in end["said"]
        return "refused"

    def halves(self):
        """Yield folders of runs that died at writes spread over the whole run, and last that of a finished run."""
        number, held = 1, set()
        while True:
            place = self.place()
            [end] = self.once(place, die_at_write=number)
            if end["code"] == 0:
                yield place  # a finished run
                return
            kinds = {kind(path) for path in files(place)}
            if not kinds <= held:
                held |= kinds
                yield place
            number += 1 if number < 10 else 5


def files(place):
    """Return the files that the commands keep, without locks and temporary ones."""
    found = [path for part in KEPT for path in sorted((place / part).rglob("*")) if path.is_file()]
    return [path for path in found if path.name != ".lock" and not any(p.endswith(".part") for p in path.parts)]


def kind(path):
    """Return the name of a file; that of a block stands for all blocks."""
    block = path.parent.name == "blocks" and path.suffix == ".safetensors"
    folder = path.parent.name if path.name == "recipe.json" else ""
    return "block" if block else f"{folder} {path.name}".strip()


def result(place):
    """Return all that a command has made, without dates and times."""
    left = sorted(str(path.relative_to(place)) for part in KEPT for path in (place / part).rglob("*"))
    return left, {str(path.relative_to(place)): contents(path) for path in files(place)}


def contents(path):
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            metadata = {key: as_data(value) for key, value in (file.metadata() or {}).items()}
            tensors = {key: as_bytes(file.get_tensor(key)) for key in sorted(file.keys())}
        return timeless(metadata), tensors
    return None if path.suffix == ".png" else path.read_bytes()


def as_data(text):
    return json.loads(text) if text.startswith("{") and text.endswith("}") and '"' in text else text


def as_bytes(tensor):
    return str(tensor.dtype), tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def timeless(data):
    if isinstance(data, dict):
        return {key: timeless(value) for key, value in data.items() if key not in TIMELESS}
    return data


# Faults


def test_a_command_killed_at_random_moments_ends_the_same(command, record):
    draw, kills, ends, refused = random.Random(0), 0, 0, 0
    place = command.place()
    while kills < KILLS:
        [end] = command.once(place, kill_after=draw.uniform(0, command.seconds))
        if end["code"] == -9:
            kills += 1
            continue
        if command.settled(place, end) == "refused":
            assert "--force" in end["said"], end["said"]
            command.finish(place)
            refused += 1
        ends, place = ends + 1, command.place()
    command.finish(place)
    record(command, "kills", moments=kills, same=ends + 1, **{"refused without --force": refused})


def test_a_flipped_bit_in_any_kept_file_is_never_another_result(command, record):
    counts = {}
    for place in command.halves():
        finished = result(place)[0] == command.expected[0]
        for path in files(place):
            name = kind(path) + (", finished" if finished else "")
            if name in counts or path.suffix == ".png":
                continue
            counts[name] = Counter()
            for _ in flipped(path, FLIPS):
                copy = command.place(place)
                [end] = command.once(copy)
                counts[name][outcome(command, copy, end, path)] += 1
    assert len(counts) >= 4
    record(command, "flips", **{name: dict(count) for name, count in counts.items()})


def outcome(command, place, end, path):
    """Judge a run after a flip. A log, a report and the artifact are results themselves and not read by a run."""
    if end["code"] == 0 and path.name == "log.jsonl":
        found, expected = result(place), command.expected
        assert without_log(found) == without_log(expected)
        return "same"
    return command.settled(place, end)


def without_log(found):
    return found[0], {name: value for name, value in found[1].items() if not name.endswith("log.jsonl")}


def test_a_full_disk_leaves_what_a_run_can_go_on_from(command, record):
    sizes = sorted({path.stat().st_size for place in command.halves() for path in files(place)})
    limits = [sizes[index * len(sizes) // LIMITS] - 1 for index in range(LIMITS)]
    counts = Counter()
    for limit in limits:
        place = command.place()
        [end] = command.once(place, limit=max(0, limit))
        counts[command.settled(place, end)] += 1
        if end["code"]:
            assert "cannot be written" in end["said"] or "can be written" in end["said"], end["said"]
        command.finish(place)
    assert counts["refused"]
    record(command, "full disk", limits=len(limits), **counts, **{"same when given again": len(limits)})


def test_two_processes_in_one_folder_do_not_mix(command, record):
    draw, counts = random.Random(1), Counter()
    for turn in range(ROUNDS):
        place = command.place()
        runs = [{"argv": command.argv, "cwd": place, "delay": delay} for delay in (0, turn and draw.uniform(0, 0.5))]
        for end in command.server.run(*runs):
            if end["code"]:
                assert "must be used by one training at a time" in end["said"], end["said"]
            counts["refused" if end["code"] else "same"] += 1
        command.finish(place)
    assert counts["same"] >= ROUNDS
    record(command, "two processes", rounds=ROUNDS, **counts)
