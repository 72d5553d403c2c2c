"""The report on a zoo: text and data agree, and averages are compared with the scores of their members."""

import json
from dataclasses import replace

import pytest
import torch
from branched_zoo import make, zoo
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit_training.checkpoints.inspect import inspect_zoo
from hyperinit_training.checkpoints.read import Checkpoints, Origin, read_checkpoints


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
    first = found.layout.views(found.weights[0])["0.weight"]

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


def test_the_text_says_which_file_key_and_prefix_were_taken_and_what_was_not_read():
    origins = (Origin("state_dict", "model.", ("loss.weight",)),) * 5 + (Origin(),) * 4
    found = replace(zoo([5, 4]), origins=origins, other_files={"optimizer.pt": "state of a training"})
    text, data = inspect_zoo(found)
    assert (
        "taken from  5 files such as 0.pt: key state_dict, prefix model., without loss.weight; "
        "4 files such as 5.pt: the whole file, no prefix\n"
        "not read    1 file such as optimizer.pt: state of a training\n"
    ) in text
    assert data["files"][0] == {"name": "0.pt", "key": "state_dict", "prefix": "model.", "left_out": ["loss.weight"]}
    assert data["other_files"] == {"optimizer.pt": "state of a training"}
    assert json.loads(json.dumps(data)) == data


def test_a_network_on_the_meta_device_gives_the_same_report(tmp_path):
    """All addresses on the meta device are 0, which once made all its tensors of one shape the same."""

    def square():
        return nn.Sequential(*[nn.Linear(6, 6) for _ in range(3)])

    def on_meta():
        with torch.device("meta"):
            return square()

    for seed in range(8):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            torch.save(square().state_dict(), tmp_path / f"{seed}.pt")
    wanted = inspect_zoo(read_checkpoints(tmp_path, model=square))
    assert inspect_zoo(read_checkpoints(tmp_path, model=on_meta)) == wanted


def test_an_evaluation_that_changes_its_network_scores_averages_of_whole_ones():
    def halved(module):
        score = float(module[0].weight.float().mean())
        module.half()
        del module[1]
        return score

    found = zoo([5, 4])
    _, data = inspect_zoo(found, model=make, evaluate=halved)
    means = found.weights[:, :240].mean(1)
    assert [row["score"] for row in data["averages"]] == pytest.approx(
        [means[:5].mean().item(), means[5:].mean().item(), means.mean().item()], abs=1e-6
    )
