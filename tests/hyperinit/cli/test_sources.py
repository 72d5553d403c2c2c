"""The commands that read a source: what they print as text and as JSON, and what they write."""

import json

import pytest
import torch
from safetensors.torch import load_file

import hyperinit
from hyperinit.cli import program
from hyperinit.samplers import METHODS


def answer(capsys, *argv):
    """Data of one command with --json."""
    assert program.main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_holds_the_facts_of_the_text(embedded, artifact, tiny, capsys):
    assert answer(capsys, "sources") == {"tiny": "an untrained source for tests"}
    assert list(answer(capsys, "methods", "tiny")) == list(METHODS)
    info = answer(capsys, "info", str(artifact))
    assert (info["source"], info["measured"], info["bytes"]) == ("tiny", tiny.card.measured, artifact.stat().st_size)


def test_plan_prints_the_plan_of_the_library(embedded, capsys):
    assert program.main(["plan", "hyperinit.nets:cnn", "--source", "tiny"]) == 0
    plan = hyperinit.plan(hyperinit.nets.cnn(), "tiny")
    assert capsys.readouterr().out == f"{plan}\n"
    data = answer(capsys, "plan", "hyperinit.nets:cnn", "--source", "tiny", "--fit", "flat", "--fill", "keep")
    assert (data["fit"], data["fill"], data["decoded_share"]) == ("flat", "keep", 1.0)
    assert [row["name"] for row in data["rows"]] == [row.name for row in plan.rows]
    assert data["rows"][0]["rest"] is None
    [row, *_] = answer(capsys, "plan", "fitting_cases:wide", "--source", "tiny", "--fill", "zoo")["rows"]
    assert (row["name"], row["rest"]) == ("0.weight", {"kind": "zoo", "layer": "0"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "torch.nn:Identity"], "hyperinit: the module must"),
        (
            ["plan", "hyperinit.nets:cn"],
            "hyperinit: hyperinit.nets must have the attribute cn, got no cn; did you",
        ),
        (["plan", "hyperinit.nets:cnn", "--fit", "exac"], "hyperinit: unknown fit 'exac'; did you mean 'exact'?"),
        (["sample", "tiny", "--n", "0", "--out", "nets"], "hyperinit: count must be an integer of at least 1, got 0"),
        (["sample", "tiny", "--method", "kde31", "--out", "nets"], "hyperinit: unknown method 'kde31'"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(embedded, tmp_path, monkeypatch, capsys, argv, message):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert program.main(argv + ["--source", "tiny"] * (argv[0] == "plan")) == 1
    out, err = capsys.readouterr()
    assert err.startswith(message)
    assert out == ""
    assert not list(folder.iterdir())


def test_a_folder_gets_one_state_dict_a_file(embedded, tiny, tmp_path, capsys):
    data = answer(capsys, "sample", "tiny", "--n", "11", "--method", "kde", "--seed", "3", "--out", str(tmp_path / "n"))
    assert (data["n"], data["method"], data["seed"]) == (11, "kde", 3)
    weights = tiny.sample(11, method="kde", generator=torch.Generator().manual_seed(3))
    files = sorted((tmp_path / "n").iterdir())
    assert data["files"] == list(map(str, files))
    assert [file.name for file in files[:2]] == ["00.safetensors", "01.safetensors"]
    network = hyperinit.nets.cnn()
    for file, row in zip(files, weights, strict=True):
        network.load_state_dict(load_file(file))
        assert torch.equal(torch.cat([value.flatten() for value in network.parameters()]), row)


def test_one_file_is_an_ensemble(embedded, tiny, tmp_path, capsys):
    out = tmp_path / "ensemble.safetensors"
    assert program.main(["sample", "tiny", "--n", "3", "--seed", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"3 networks by kde30, seed 1: {out}\n"
    weights = tiny.sample(3, generator=torch.Generator().manual_seed(1))
    members = hyperinit.Ensemble.load(out).members
    found = torch.stack([torch.cat([value.flatten() for value in member.parameters()]) for member in members])
    assert torch.equal(found, weights)


def test_without_a_seed_each_sample_is_new_and_its_seed_is_printed(embedded, tmp_path, capsys):
    one, two = (answer(capsys, "sample", "tiny", "--out", str(tmp_path / name)) for name in "ab")
    assert one["seed"] != two["seed"]
    answer(capsys, "sample", "tiny", "--seed", str(one["seed"]), "--out", str(tmp_path / "c"))
    same = [load_file(tmp_path / name / "0.safetensors")["0.weight"] for name in "ac"]
    assert torch.equal(*same)


def test_a_folder_that_holds_files_is_not_written_to(embedded, tmp_path, capsys):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert program.main(["sample", "tiny", "--out", str(folder)]) == 1
    assert "--out must be a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
