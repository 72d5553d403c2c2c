"""What is said of a zoo: distances and families against plain means, averages against a network's own score."""

import json

import pytest
import torch
from torch import nn

from hyperinit.cli import main
from hyperinit.errors import ArgumentError
from hyperinit_training.checkpoints import families as checkpoints_families
from hyperinit_training.checkpoints.families import distances, families, spread
from hyperinit_training.checkpoints.inspect import inspect_zoo
from hyperinit_training.checkpoints.layout import StateLayout
from hyperinit_training.checkpoints.read import Checkpoints

MINE = """
from torch import nn
def make(): return nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))
def weight(module): return module[0].weight.abs().mean()
"""


def make():
    return nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))


def zoo(sizes, noise=0.1, seed=0):
    """Families of the given sizes around random networks, with buffers that say nothing of them."""
    generator = torch.Generator().manual_seed(seed)
    layout = StateLayout.of_module(make())
    base = torch.randn(len(sizes), layout.size, generator=generator).repeat_interleave(torch.tensor(sizes), dim=0)
    weights = base + noise * torch.randn(base.shape, generator=generator)
    weights[:, layout.is_buffer] = 100 * torch.rand(len(weights), int(layout.is_buffer.sum()), generator=generator)
    names = tuple(f"{index}.pt" for index in range(len(weights)))
    return Checkpoints(layout, weights, names, names)


def labels(found):
    return families(distances(found), spread(found)).labels.tolist()


@pytest.mark.parametrize("chunk", [1 << 22, 50])
def test_distances_are_those_of_the_parameters(chunk, monkeypatch):
    monkeypatch.setattr(checkpoints_families, "CHUNK", chunk)
    found = zoo([3, 4, 3], noise=1e-3)
    rows = found.weights[:, ~found.layout.is_buffer].double()
    torch.testing.assert_close(distances(found), torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist"))


def test_copies_have_no_distance():
    """The products of 21 networks round so that some copies would be 5e-7 apart."""
    found = zoo([1] * 21, noise=1)
    found.weights[4:] = found.weights[3]
    matrix = distances(found)
    assert (matrix[3:, 3:] == 0).all()
    assert (matrix[:3, 3:] > 1).all()


def test_families_are_found_largest_first():
    assert labels(zoo([3, 5, 4])) == [2] * 3 + [0] * 5 + [1] * 4


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.4])
def test_a_family_alone_is_one_and_seeds_are_none(noise):
    assert labels(zoo([12], noise)) == [0] * 12
    assert labels(zoo([1] * 12, noise)) == list(range(12))


def test_a_common_scale_and_shift_make_no_family():
    """As U(0, 1) does, or the ones of a norm: such networks share most of their length, but no origin."""
    found = zoo([1] * 12)
    assert labels(Checkpoints(found.layout, 0.1 * found.weights + 5, found.names, found.names)) == list(range(12))


def test_few_siblings_among_seeds_are_found():
    assert labels(zoo([3] + [1] * 20))[:3] == [0, 0, 0]
    assert max(labels(zoo([3] + [1] * 20))) == 20


def test_copies_do_not_hide_families():
    found = zoo([6, 6, 6])
    for index in (0, 6, 12):
        found.weights[index + 1] = found.weights[index] + 1e-6
    assert labels(found) == [0] * 6 + [1] * 6 + [2] * 6


def test_a_copy_does_not_break_a_family_up():
    found = zoo([12])
    found.weights[1] = found.weights[0]
    assert labels(found) == [0] * 12


def test_the_text_says_what_the_data_says():
    text, data = inspect_zoo(zoo([5, 4]))
    assert (data["models"], data["parameters"], data["buffers"]) == (9, 442, 80)
    assert data["families"]["members"] == [[f"{i}.pt" for i in range(5)], [f"{i}.pt" for i in range(5, 9)]]
    low, high = data["families"]["gap"]
    assert f"families    2 of 5, 4 models (joined below {low:.4g}, apart above {high:.4g})" in text
    assert text.startswith("9 models of 442 parameters and 80 values of buffers\n\ntensor          shape   kind\n")
    assert "1.running_mean  40      buffer\n" in text
    assert "left out    1.num_batches_tracked\nNaN, inf    no model\nduplicates  none\n" in text
    assert f"distances   min {data['distances']['min']:.4g}, median" in text
    assert "averages" not in data
    assert json.loads(json.dumps(data)) == data


def test_what_is_wrong_with_a_zoo_is_in_the_text():
    found = zoo([1] * 9)
    digests = ("same",) * 2 + found.digests[2:]
    text, data = inspect_zoo(Checkpoints(found.layout, found.weights, found.names, digests, skipped=("x.pt", "y.pt")))
    assert "NaN, inf    2 models, left out: x.pt, y.pt\nduplicates  0.pt = 1.pt\n" in text
    assert "families    none, every model is alone (no gap in the distances; joined below " in text
    assert data["not_finite"] == ["x.pt", "y.pt"]


def test_averages_are_scored_within_families_and_across():
    """The score of a network is its length along the first one: siblings keep it, others cancel."""
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
    assert [line.split()[-1] for line in text.splitlines()[-4:-1]] == ["score", "score", "it"]
    assert text.endswith("Running statistics are averaged as they are; estimated again, they may give a higher score.")


def test_members_and_averages_are_measured_alike_whatever_scores_a_file_gives():
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
    """Two families of five, one of them with NaN, and a module with the network."""
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
