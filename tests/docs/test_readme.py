"""The README's Python is run as it stands, and what it says of the shell exists."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.samplers import METHODS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def wide():
    return nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(16, 12, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(12, 8, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(72, 40), nn.Tanh(), nn.Linear(40, 100),
    )  # fmt: skip


@pytest.fixture
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Blocks may write to runs/ and register samplers."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.usefixtures("_in_a_folder_of_its_own")
@pytest.mark.parametrize("block", [block for block in BLOCKS if ">>>" not in block])
def test_a_block_runs(block):
    exec(block, {"hyperinit": hyperinit, "torch": torch, "model": wide()})


def test_the_plan_is_the_one_that_is_printed():
    [block] = [block for block in BLOCKS if "print(hyperinit.plan(model" in block and ">>>" in block]
    shown = block.split("\n", 1)[1].strip()
    assert shown == str(hyperinit.plan(wide(), "mnist")).strip()


def test_make_targets_and_linked_files_exist():
    root = Path(__file__).parents[2]
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= set(targets)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    missing = [link for link in links if not (root / link).exists()]
    assert not missing
