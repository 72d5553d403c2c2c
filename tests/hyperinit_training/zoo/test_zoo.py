"""Zoos on disk: a saved zoo loads unchanged, and damaged files are refused."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperinit.errors import ZooError
from hyperinit_training.zoo.zoo import Snapshot, Zoo, split_models


@pytest.fixture
def small(layout):
    """Five snapshots of three models, random weights."""
    weights = torch.randn(5, layout.size, generator=torch.Generator().manual_seed(0))
    rows = [(0, 0, 1.0, "train"), (0, 0, 2.0, "train"), (1, 0, 2.0, "val"), (2, 7, 1.0, "test"), (2, 7, 2.0, "test")]
    snapshots = tuple(Snapshot(*row, 0.1 * i, 0.2 * i) for i, row in enumerate(rows))
    return Zoo(layout, weights, snapshots, [["tanh", {}]], {"date": "2024-01-01"})


def test_a_saved_zoo_loads_as_it_was(small, tmp_path):
    small.save(tmp_path / "new" / "zoo")
    loaded = Zoo.load(tmp_path / "new" / "zoo")
    assert torch.equal(loaded.weights, small.weights)
    assert (loaded.layout, loaded.snapshots, loaded.architecture, loaded.provenance) == (
        small.layout, small.snapshots, small.architecture, small.provenance,
    )  # fmt: skip


def test_half_precision_keeps_three_digits_in_half_the_space(small, tmp_path):
    small.save(tmp_path / "full")
    small.save(tmp_path / "half", half=True)
    loaded = Zoo.load(tmp_path / "half")
    assert loaded.weights.dtype == torch.float32
    assert torch.equal(loaded.weights, small.weights.half().float())
    assert loaded.snapshots == small.snapshots
    full, half = ((tmp_path / name / "weights.safetensors").stat().st_size for name in ("full", "half"))
    assert half < 0.51 * full


def test_a_part_has_the_rows_of_its_split_only(small):
    assert [len(small.part(split)) for split in ("train", "val", "test")] == [2, 1, 2]
    assert torch.equal(small.part("test").weights, small.weights[3:])
    assert small.part("test").families.tolist() == [7, 7]
    assert small.part("train").scores.tolist() == pytest.approx([0, 0.1])
    assert len(small.part("other")) == 0


def test_a_model_that_is_missing_is_noticed(small, tmp_path):
    small.save(tmp_path)
    save_file({"weights": small.weights[:-1].contiguous()}, tmp_path / "weights.safetensors")
    message = (
        "weights must have shape (5, 2464), one row for each snapshot in zoo.json, got (4, 2464); "
        "a model is missing or zoo.json belongs to another file"
    )
    with pytest.raises(ZooError, match=re.escape(message)):
        Zoo.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_is_not_finite_is_named(small, tmp_path, value):
    small.save(tmp_path)
    weights = load_file(tmp_path / "weights.safetensors")["weights"]
    weights[3, 100] = value
    save_file({"weights": weights}, tmp_path / "weights.safetensors")
    with pytest.raises(ZooError, match=r"every weight must be finite, got NaN or infinity in model 2"):
        Zoo.load(tmp_path)


@pytest.mark.parametrize("name", ["zoo.json", "weights.safetensors"])
def test_a_missing_file_is_named(small, tmp_path, name):
    small.save(tmp_path)
    (tmp_path / name).unlink()
    message = rf"a zoo folder must hold zoo.json and weights.safetensors, {tmp_path} lacks {name}$"
    with pytest.raises(ZooError, match=message):
        Zoo.load(tmp_path)


def column_cut(text):
    data = json.loads(text)
    data["snapshots"]["val"].pop()
    return json.dumps(data)


def layout_gone(text):
    return json.dumps({key: value for key, value in json.loads(text).items() if key != "layout"})


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda text: text[:-30], "JSONDecodeError"),
        (lambda text: "null", "AttributeError"),
        (lambda text: "[]", "TypeError"),
        (lambda text: '{"layout": 3, "snapshots": {}}', r"\w*Error"),
        (layout_gone, "KeyError: 'layout'"),
        (column_cut, "ValueError"),
    ],
)
def test_damaged_json_is_refused(small, tmp_path, damage, kind):
    small.save(tmp_path)
    path = tmp_path / "zoo.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ZooError, match=rf"{tmp_path} is not a readable zoo: {kind}"):
        Zoo.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(small, tmp_path, keep):
    small.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ZooError, match=rf"{tmp_path} is not a readable zoo: SafetensorError"):
        Zoo.load(tmp_path)


@pytest.mark.parametrize(
    ("models", "counts"),
    [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1]), (20, [14, 3, 3]), (480, [336, 72, 72])],
)
def test_models_are_dealt_70_15_15(models, counts):
    dealt = split_models(models, torch.Generator().manual_seed(0))
    assert [dealt.count(split) for split in ("train", "val", "test")] == counts


def test_the_deal_is_decided_by_the_generator():
    deals = [split_models(100, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert deals[0] == deals[1] != deals[2]
    assert deals[0] != sorted(deals[0])
