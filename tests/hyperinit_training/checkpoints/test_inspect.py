"""The report on a zoo: text and data agree, and averages are compared with the scores of their members."""

import json

import pytest
import torch
from branched_zoo import make, zoo

from hyperinit.cli import main
from hyperinit.errors import ArgumentError
from hyperinit_training.checkpoints.inspect import inspect_zoo
from hyperinit_training.checkpoints.read import Checkpoints

MINE = """
from torch import nn
def make(): return nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))
def weight(module): return module[0].weight.abs().mean()
"""


def test_the_text_agrees_with_the_data():
    text, data = inspect_zoo(zoo([5, 4]))
    assert (data["models"], data["parameters"], data["buffers"]) == (9, 442, 80)
    assert data["families"]["members"] == [[f"{i}.pt" for i in range(5)], [f"{i}.pt" for i in range(5, 9)]]
    low, high = data["families"]["gap"]
    assert f"families    2 of 5, 4 models (joined below {low:.4g}, apart above {high:.4g})" in text
    assert text.startswith("9 models of 442 parameters and 80 buffer values\n\ntensor          shape   kind\n")
    assert "1.running_mean  40      buffer\n" in text
    assert "left out    1.num_batches_tracked\nNaN, inf    no model\nduplicates  none\n" in text
    assert f"distances   min {data['distances']['min']:.4g}, median" in text
    assert "averages" not in data
    assert json.loads(json.dumps(data)) == data


def test_skipped_and_equal_networks_are_in_the_text():
    found = zoo([1] * 9)
    digests = ("same",) * 2 + found.digests[2:]
    text, data = inspect_zoo(Checkpoints(found.layout, found.weights, found.names, digests, skipped=("x.pt", "y.pt")))
    assert "NaN, inf    2 models, left out: x.pt, y.pt\nduplicates  0.pt = 1.pt\n" in text
    assert "families    none, no two models are related (no gap in the distances; joined below " in text
    assert data["not_finite"] == ["x.pt", "y.pt"]


def test_averages_are_scored_within_families_and_across():
    """The score depends on the projection onto the first network, so only averages of siblings keep it."""
    found = zoo([5, 5])
    first = found.layout.unflatten(found.weights[0])["0.weight"]

    def along(module):
        weight = module[0].weight.detach()
        return abs(float((weight * first).sum() / first.square().sum())) + float(weight.norm() / first.norm())

    text, data = inspect_zoo(found, model=make, evaluate=along)
    rows = data["averages"]
    assert [(row["of"], row["models"], row["kept"]) for row in rows] == [
        ("family 0", 5, True), ("family 1", 5, True), ("all", 10, False),
    ]  # fmt: skip
    probe = found.layout.write_(make(), found.weights.mean(0))
    assert rows[-1]["score"] == pytest.approx(along(probe), rel=1e-4)
    assert rows[0]["members_score"] == pytest.approx(data["scores"]["max"], rel=0.05)
    assert [line.rpartition("  ")[2] for line in text.splitlines()[-4:-1]] == ["keeps the score"] * 2 + ["loses score"]
    assert text.endswith("Running statistics are averaged, too. Estimating them again on data may raise the score.")


def test_members_and_averages_are_scored_by_the_same_evaluation():
    found = zoo([1] * 8)
    known = Checkpoints(found.layout, found.weights, found.names, found.names, scores=torch.linspace(0.1, 0.8, 8))
    _, data = inspect_zoo(known, model=make, evaluate=lambda _: 0.25)
    assert data["averages"] == [{"of": "all", "models": 8, "members_score": 0.25, "score": 0.25, "kept": True}]
    assert data["scores"] == {"min": pytest.approx(0.1), "median": pytest.approx(0.4), "max": pytest.approx(0.8)}


def test_an_evaluation_needs_a_network():
    with pytest.raises(ArgumentError, match=r"^evaluate needs a model, got none$"):
        inspect_zoo(zoo([8]), evaluate=float)


# The command


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
    assert "NaN, inf    1 models, left out: 9.pt\n" in out
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
        (["zoo", "--model", "mine_of_inspect:mak"], "did you mean make?"),
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
