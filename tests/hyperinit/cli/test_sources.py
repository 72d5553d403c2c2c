"""The commands that read a source: what they print as text and as JSON, and what they write."""

import json
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import hyperinit
from hyperinit.cli import program, sources
from hyperinit.layout import Layout
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
    two = answer(capsys, "plan", "fitting_cases:wide", "--source", "tiny")
    assert (two["members"], two["decided_share"]) == (2, 1.0)
    one = answer(capsys, "plan", "fitting_cases:wide", "--source", "tiny", "--fill", "zoo", "--members", "1")
    row = one["rows"][0]
    assert (row["name"], row["rest"]) == ("0.weight", {"kind": "zoo", "layer": "0"})


def test_plan_takes_a_checkpoint_as_the_source(tmp_path, capsys):
    torch.save({"model": hyperinit.nets.cnn().state_dict()}, tmp_path / "net.pt")
    assert answer(capsys, "plan", "hyperinit.nets:cnn", "--source", str(tmp_path / "net.pt"))["decoded_share"] == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "torch.nn:Identity"], "hyperinit: the module must"),
        (
            ["plan", "hyperinit.nets:cn"],
            "hyperinit: hyperinit.nets must have the attribute cn, got no cn; did you",
        ),
        (["plan", "hyperinit.nets:cnn", "--fit", "exac"], "hyperinit: unknown fit 'exac'; did you mean 'exact'?"),
        (["sample", "tiny", "--n", "0", "--out", "nets"], "hyperinit: --n must be an integer of at least 1, got 0"),
        (["sample", "tiny", "--n", "1000000000000", "--out", "nets"], "hyperinit: --n must be at most "),
        (["sample", "tiny", "--n", "900", "--out", "a.safetensors"], "hyperinit: --n must be at most 6"),
        (
            ["sample", "tiny", "--seed", str(2**64), "--out", "nets"],
            "hyperinit: --seed must be from -9223372036854775808",
        ),
        (
            ["sample", "tiny", "--out", "nets.pt"],
            "hyperinit: --out must be a folder, got nets.pt, which has the ending",
        ),
        (["sample", "tiny", "--out", "/dev/null/nets"], "hyperinit: --out must lie in a folder that can be written"),
        (["sample", "tiny", "--out", "x" * 300], "hyperinit: --out must have names of at most 255 bytes"),
        (["plan", "leaves_of_test:make"], "hyperinit: leaves_of_test:make must return a network when called"),
        (["sample", "tiny", "--method", "kde31", "--out", "nets"], "hyperinit: unknown method 'kde31'"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(embedded, tmp_path, monkeypatch, capsys, argv, message):
    folder = tmp_path / "empty"
    folder.mkdir()
    (tmp_path / "leaves_of_test.py").write_text("import sys\n\ndef make(): sys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
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


def test_a_file_that_exists_is_replaced_only_with_force(embedded, tmp_path, capsys):
    out = tmp_path / "ensemble.safetensors"
    out.write_text("mine")
    assert program.main(["sample", "tiny", "--out", str(out)]) == 1
    assert "--out must be a new file" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert program.main(["sample", "tiny", "--out", str(out), "--force"]) == 0
    assert len(hyperinit.Ensemble.load(out).members) == 1


def test_running_variances_below_zero_are_raised_before_they_are_written(embedded, tmp_path, monkeypatch, capsys):
    """A decoder can produce them, and batch norm would return NaN."""
    layout = Layout.of(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    card = hyperinit.load("tiny").card
    source = SimpleNamespace(
        card=card, layout=layout, sample=lambda count, **_: -torch.ones(count, layout.size), header=None
    )
    monkeypatch.setattr(hyperinit, "load", lambda _: source)
    assert program.main(["sample", "tiny", "--out", str(tmp_path / "nets")]) == 0
    state = load_file(tmp_path / "nets" / "0.safetensors")
    assert state["1.running_var"].tolist() == pytest.approx([1e-5, 1e-5])
    assert state["1.running_mean"].tolist() == [-1, -1]


def test_a_disk_that_fills_up_leaves_nothing(embedded, tmp_path, monkeypatch, capsys):
    written = []

    def save(state, path, metadata):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(b"whole")

    monkeypatch.setattr(sources, "save_file", save)
    assert program.main(["sample", "tiny", "--n", "4", "--out", str(tmp_path / "nets")]) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert not (tmp_path / "nets").exists()
    (tmp_path / "empty").mkdir()
    written.clear()
    assert program.main(["sample", "tiny", "--n", "4", "--out", str(tmp_path / "empty")]) == 1
    assert not list((tmp_path / "empty").iterdir())


def test_a_single_network_is_counted_in_the_singular(embedded, tmp_path, capsys):
    assert program.main(["sample", "tiny", "--seed", "1", "--out", str(tmp_path / "n")]) == 0
    assert capsys.readouterr().out == f"1 network by kde30, seed 1: {tmp_path / 'n' / '0.safetensors'}\n"


def test_the_help_says_that_a_factory_runs_code(capsys):
    with pytest.raises(SystemExit, match="0"):
        program.main(["plan", "--help"])
    assert "imported, also from the working folder, and its code runs" in " ".join(capsys.readouterr().out.split())


def test_secrets_of_an_address_reach_neither_files_nor_answers(server, artifact, tmp_path, capsys):
    server.body = artifact.read_bytes()
    place = server.url.replace("http://", "http://me:SECRET@")
    source = f"{place}/x?token=SECRET#sha256={sha256(server.body).hexdigest()}"
    assert answer(capsys, "sample", source, "--n", "1", "--out", str(tmp_path / "nets"))["n"] == 1
    [file] = (tmp_path / "nets").iterdir()
    assert b"SECRET" not in file.read_bytes()
    assert server.url.encode() in file.read_bytes()
    assert "SECRET" not in json.dumps(answer(capsys, "pull", source))


def test_info_names_the_network_its_activation_and_its_norms(artifact, capsys):
    assert program.main(["info", str(artifact)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "network      3 conv2d layers, 2 linear layers" in lines
    assert "activation   Tanh" in lines
    assert "normalisation none" in lines
