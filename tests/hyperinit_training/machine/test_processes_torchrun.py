"""Real processes, started by torchrun, give the results of a single process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[3]
RECIPE = """
title = "Tiny"
[zoo]
images = "digits"
models = 18
families = 3
rate = 4e-3
epochs = 2
branch_epochs = 1
limit = 128
[autoencoder]
width = 32
heads = 2
feedforward = 32
depth = 1
latent = 16
permutations = 20
steps = 12
batch = 8
warmup = 5
rate = 1e-3
dropout = {dropout}
"""
AUTOENCODER = """
import os, signal, sys
from pathlib import Path
import torch
from hyperinit_training.machine import precision, processes
from hyperinit_training.recipes.load import load_recipe
from hyperinit_training.train_autoencoder import train
from hyperinit_training.zoo.zoo import Zoo
zoo, recipe, run, die_at = sys.argv[1:]
train.LOG_EVERY, train.CHECKPOINT_SECONDS = 1, 0
precision.fastest = lambda: torch.float32
advance = train.Training.advance
def dying(training):
    if processes.rank() == 1 and training.step == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
    return advance(training)
train.Training.advance = dying
with processes.started():
    recipe = load_recipe(recipe).autoencoder
    train.train_autoencoder(recipe, train.prepare(Zoo.load(Path(zoo)), recipe), Path(run))
"""
ZOO = """
import os, signal, sys
from hyperinit_training.__main__ import main
from hyperinit_training.machine import processes
from hyperinit_training.train_zoo import compiled_blocks
write = compiled_blocks.write_tensors
def dying(path, tensors):
    if processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, tensors)
compiled_blocks.write_tensors = dying
main(sys.argv[1:])
"""
pytestmark = pytest.mark.slow


def launch(*arguments, count=2, check=True):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "training"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    if count == 1:
        command = [sys.executable]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the recipes, the scripts, and a zoo that a single process trained."""
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "tiny.toml").write_text(RECIPE.format(dropout=0.0))
    (folder / "dropping.toml").write_text(RECIPE.format(dropout=0.1))
    (folder / "autoencoder.py").write_text(AUTOENCODER)
    (folder / "zoo.py").write_text(ZOO)
    launch("-m", "hyperinit_training", "zoo", "--recipe", folder / "tiny.toml", "--out", folder / "zoo", count=1)
    return folder


def weights(folder):
    return (folder / "weights.safetensors").read_bytes()


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_train_the_same_zoo_as_one_and_only_the_first_prints(place):
    done = launch("-m", "--", "hyperinit_training", "zoo", "--recipe", place / "tiny.toml", "--out", place / "two")
    assert weights(place / "two") == weights(place / "zoo")
    heads = [json.loads((place / name / "zoo.json").read_text()) for name in ("two", "zoo")]
    assert heads[0]["snapshots"] == heads[1]["snapshots"]
    assert done.stdout.count("18 snapshots") == 1
    assert {path.name for path in (place / "two").iterdir()} == {"zoo.json", "weights.safetensors"}


def test_a_zoo_resumes_after_one_process_was_killed(place):
    arguments = ("zoo", "--recipe", place / "tiny.toml", "--out", place / "killed")
    assert launch(place / "zoo.py", *arguments, check=False).returncode != 0
    assert (place / "killed" / "blocks" / "recipe.json").exists()
    assert not (place / "killed" / "zoo.json").exists()
    launch("-m", "hyperinit_training", *arguments)
    assert weights(place / "killed") == weights(place / "zoo")


def test_two_processes_train_the_same_autoencoder_as_one(place):
    for count in (1, 2):
        launch(place / "autoencoder.py", place / "zoo", place / "tiny.toml", place / f"run{count}", -1, count=count)
    one, two = (log(place / f"run{count}") for count in (1, 2))
    assert [record["step"] for record in two] == list(range(1, 13))
    for key in ("total", "reconstruction", "val_r2"):
        a, b = (torch.tensor([record[key] for record in found]) for found in (one, two))
        torch.testing.assert_close(a[:6], b[:6], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(
            a, b, rtol=5e-3, atol=1e-6
        )  # rounding differences of the sums grow from step to step


def test_an_autoencoder_resumes_after_one_process_was_killed(place):
    """The recipe has dropout, and checkpoints do not store its masks."""
    recipe = (place / "zoo", place / "dropping.toml")
    launch(place / "autoencoder.py", *recipe, place / "whole", -1)
    assert launch(place / "autoencoder.py", *recipe, place / "cut", 7, check=False).returncode != 0
    assert 1 <= log(place / "cut")[-1]["step"] <= 7
    launch(place / "autoencoder.py", *recipe, place / "cut", -1)
    whole, cut = (load_file(place / name / "checkpoint.safetensors") for name in ("whole", "cut"))
    different = [key for key in whole if not torch.equal(whole[key], cut[key])]
    assert not different
    assert log(place / "cut") == log(place / "whole")


def test_a_command_for_one_process_is_rejected_under_torchrun(place):
    done = launch("-m", "hyperinit_training", "sources", check=False)
    assert done.returncode != 0
    assert "only zoo, train, pretrain run in several processes, got sources" in done.stderr
