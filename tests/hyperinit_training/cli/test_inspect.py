"""`hyperinit zoo inspect` as it is typed."""

import json

import own_zoo
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperinit.errors import ArgumentError
from hyperinit_training.cli import commands

MODEL = ["--model", "own_zoo:make_net"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Nine networks, of which one has NaN."""
    folder = own_zoo.write(tmp_path_factory.mktemp("inspected") / "nets", count=9)
    path = folder / "net08.safetensors"
    state = load_file(path)
    save_file(state | {"0.weight": torch.full_like(state["0.weight"], torch.nan)}, path)
    return folder


def test_networks_with_nan_are_listed_and_left_out(checkpoints, capsys):
    assert commands.zoo(["inspect", str(checkpoints), *MODEL, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["models"] == 8
    assert len(data["not_finite"]) == 1
    assert "net08" in data["not_finite"][0]


def test_the_text_names_the_number_of_networks(checkpoints, capsys):
    assert commands.zoo(["inspect", str(checkpoints)]) == 0
    assert "8" in capsys.readouterr().out.splitlines()[0]


def test_an_evaluation_scores_the_networks(checkpoints, capsys):
    command = ["inspect", str(checkpoints), *MODEL, "--json"]
    assert commands.zoo(command) == 0
    without = json.loads(capsys.readouterr().out)
    assert commands.zoo([*command, "--evaluate", "own_zoo:accuracy"]) == 0
    assert json.loads(capsys.readouterr().out) != without


def test_an_evaluation_needs_a_model(checkpoints):
    with pytest.raises(ArgumentError, match=r"^--evaluate needs --model, got none$"):
        commands.zoo(["inspect", str(checkpoints), "--evaluate", "own_zoo:accuracy"])


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        commands.zoo(["inspect", "--help"])
    assert "examples:\n  hyperinit zoo inspect runs/" in capsys.readouterr().out
