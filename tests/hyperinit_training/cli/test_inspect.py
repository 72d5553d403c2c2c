"""`hyperinit zoo inspect` as it is typed."""

import json

import own_zoo
import pytest
import torch
from branched_zoo import make, zoo
from safetensors.torch import load_file, save_file

from hyperinit.cli import main
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


# As a whole program, in a folder of its own

MINE = """
from torch import nn
def make(): return nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))
def weight(module): return module[0].weight.abs().mean()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two families of five networks, one network with NaN, and a Python module that makes the network."""
    found = zoo([5, 5])
    found.weights[9, 0] = float("nan")
    (tmp_path / "mine_of_inspect.py").write_text(MINE)
    (tmp_path / "zoo").mkdir()
    for name, row in zip(found.names, found.weights, strict=True):
        torch.save(found.layout.write_(make(), row).state_dict(), tmp_path / "zoo" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "zoo"


def test_the_command_reads_a_folder(folder, capsys):
    assert main(["zoo", "inspect", "zoo"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("9 models of 442 parameters")
    assert "NaN, inf    1 model, left out: 9.pt\n" in out
    assert "families    2 of 5, 4 models" in out


def test_the_command_evaluates_by_name(folder, capsys):
    names = ["--model", "mine_of_inspect:make", "--evaluate", "mine_of_inspect:weight"]
    assert main(["zoo", "inspect", "zoo/*.pt", *names, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(row["of"], row["models"]) for row in data["averages"]] == [("family 0", 5), ("family 1", 4), ("all", 9)]


def test_the_command_takes_scores(folder, capsys, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps([{"file": f"{i}.pt", "score": i / 10} for i in range(9)]))
    assert main(["zoo", "inspect", "zoo", "--scores", "s.json"]) == 0
    assert "scores      min 0.0000, median 0.4000, max 0.8000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "a zoo must be given as a folder"),
        (["zoo", "--model", "mine_of_inspect:mak"], "did you mean 'make'?"),
        (["zoo", "--model", "hyperinit.nets:cnn"], "0.pt must hold the network's tensors, got missing 3.weight"),
        (["zoo", "--evaluate", "mine_of_inspect:weight"], "--evaluate needs --model, got none"),
    ],
)
def test_wrong_arguments_of_the_command_are_explained(folder, capsys, arguments, message):
    assert main(["zoo", "inspect", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["zoo", "inspect", "--help"])
    assert capsys.readouterr().out.startswith("usage: hyperinit zoo inspect")
