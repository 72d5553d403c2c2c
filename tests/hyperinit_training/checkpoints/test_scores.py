"""Tables of scores: both formats agree, and errors name the file and the row."""

import json
from pathlib import Path

import pytest
import torch

from hyperinit.errors import ZooError
from hyperinit_training.checkpoints.scores import match_scores, read_scores

ROWS = [{"file": "./run/a.pt", "score": 0.5, "epoch": 2}, {"file": "b.pt", "score": 0.75, "epoch": 3}]
TABLE = {"run/a.pt": (0.5, 2.0), "b.pt": (0.75, 3.0)}


def test_csv_and_json_give_the_same(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(ROWS))
    (tmp_path / "s.csv").write_text(
        "\ufefffile, loss, score, epoch\n./run/a.pt, 1, 0.5, 2\nb.pt, 2, 0.75, 3\n", "utf-8"
    )
    assert read_scores(tmp_path / "s.json") == read_scores(tmp_path / "s.csv") == TABLE


def test_epochs_may_be_unknown(tmp_path):
    (tmp_path / "s.csv").write_text("file,score,epoch\na.pt,0.5,\nb.pt,1,4\n")
    assert read_scores(tmp_path / "s.csv") == {"a.pt": (0.5, None), "b.pt": (1.0, 4.0)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "s.csv",
            "file,accuracy\na.pt,1\n",
            r"s.csv must give file and score in every row, got file, accuracy in row 1$",
        ),
        ("s.csv", "file,score\na.pt,1\na.pt,1\n", r"s.csv must name every checkpoint once, got a.pt again in row 2$"),
        ("s.csv", "file,score\na.pt,high\n", r"s.csv must give a number as a score for a.pt, got 'high'$"),
        ("s.csv", "file,score\na.pt\n", r"s.csv must give a number as a score for a.pt, got None$"),
        ("s.csv", "file,score,epoch\na.pt,1,last\n", r"must give a number as an epoch for a.pt, got 'last'$"),
        ("s.json", '[{"file": "a.pt"}]', r"s.json must give file and score in every row, got file in row 1$"),
        ("s.json", "[3]", r"s.json must give file and score in every row, got 3 in row 1$"),
        ("s.json", '[{"file"', r"s.json is not JSON: "),
        ("s.toml", "", r"scores must be a .csv or .json file, got .*s.toml$"),
        ("gone.csv", None, r"got .*gone.csv, which does not exist$"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ZooError, match=message):
        read_scores(tmp_path / name)


def test_scores_come_in_the_order_of_the_checkpoints(tmp_path):
    scores, epochs = match_scores(TABLE, ["b.pt", "run/a.pt"], [], tmp_path)
    assert torch.equal(scores, torch.tensor([0.75, 0.5]))
    assert torch.equal(epochs, torch.tensor([3.0, 2.0]))
    table = {**TABLE, "b.pt": (0.75, None)}
    assert match_scores(table, ["b.pt", "run/a.pt"], [], tmp_path)[1] is None


def test_a_checkpoint_that_was_left_out_needs_no_score_and_may_have_any(tmp_path):
    for row in ({}, {"bad.pt": (float("nan"), None)}):
        scores, _ = match_scores(TABLE | row, ["b.pt", "run/a.pt"], ["bad.pt"], tmp_path)
        assert scores.tolist() == [0.75, 0.5]


@pytest.mark.parametrize(
    ("names", "table", "message"),
    [
        (["b.pt"], TABLE, r"s.csv must name checkpoints of the zoo, got run/a.pt$"),
        (["b.pt", "runs/a.pt"], TABLE, r"got run/a.pt; did you mean 'runs/a.pt'\?$"),
        (["b.pt", "run/a.pt", "c.pt"], TABLE, r"s.csv must give a score for every checkpoint, it lacks c.pt$"),
        (["b.pt"], {"b.pt": (float("inf"), 1.0)}, r"s.csv must give finite scores, got inf for b.pt$"),
        (["b.pt"], {"b.pt": (1e300, 1.0)}, r"s.csv must give scores of at most 3.4e\+38, got 1e\+300 for b.pt$"),
        (["b.pt"], {"b.pt": (1.0, -1.0)}, r"s.csv must give epochs from 0 to 3.4e\+38, got -1.0 for b.pt$"),
        (["b.pt"], {"b.pt": (1.0, float("nan"))}, r"s.csv must give epochs from 0 to 3.4e\+38, got nan for b.pt$"),
        (["b.pt"], {"b.pt": (1.0, 1e39)}, r"s.csv must give epochs from 0 to 3.4e\+38, got 1e\+39 for b.pt$"),
        (["b.pt"], {"b.pt": (1.0, 1.0)} | {f"{i}": (1.0, 1.0) for i in range(7)}, r"got 0, 1, 2, 3, 4 and 2 more$"),
    ],
)
def test_scores_that_do_not_fit_the_zoo_are_refused(tmp_path, names, table, message):
    with pytest.raises(ZooError, match=message):
        match_scores(table, names, [], tmp_path / "s.csv")


def test_a_folder_with_one_checkpoint_may_stand_for_it():
    names = ["checkpoint-5/model.safetensors", "checkpoint-50/a.pt", "checkpoint-50/b.pt"]
    table = {"checkpoint-5": (0.5, 5.0), "checkpoint-50/a.pt": (0.6, 50.0), "checkpoint-50/b.pt": (0.7, 51.0)}
    scores, _ = match_scores(table, names, [], Path("s.csv"))
    assert torch.equal(scores, torch.tensor([0.5, 0.6, 0.7]))
    with pytest.raises(ZooError, match=r"must name checkpoints of the zoo, got checkpoint-50"):
        match_scores({"checkpoint-50": (0.5, 5.0)}, names, [], Path("s.csv"))


def test_a_huge_integer_and_a_pointer_of_git_lfs_are_explained(tmp_path):
    (tmp_path / "s.json").write_text('[{"file": "a.pt", "score": 1' + "0" * 400 + "}]")
    with pytest.raises(
        ZooError, match=r"s.json must give a number as a score for a.pt, got a number of over 80 digits"
    ):
        read_scores(tmp_path / "s.json")
    (tmp_path / "s.csv").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(
        ZooError, match=r"s.csv must be the file itself, got a Git LFS pointer in place of the file; run `git lfs pull`"
    ):
        read_scores(tmp_path / "s.csv")
