"""Zoos on disk: a saved zoo loads unchanged, and damaged files are refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flips import flipped
from safetensors.torch import load_file, save_file

from hyperinit.errors import WriteError, ZooError
from hyperinit_training.machine import run_files
from hyperinit_training.zoo.zoo import Snapshot, Zoo, split_models

ROOT = Path(__file__).parents[3]


@pytest.fixture
def small(layout):
    """Five snapshots of three models, random weights."""
    weights = torch.randn(5, layout.size, generator=torch.Generator().manual_seed(0))
    rows = [(0, 0, 1.0, "train"), (0, 0, 2.0, "train"), (1, 0, 2.0, "val"), (2, 7, 1.0, "test"), (2, 7, 2.0, "test")]
    snapshots = tuple(Snapshot(*row, 0.1 * i, 0.2 * i) for i, row in enumerate(rows))
    return Zoo(layout, weights, snapshots, [["tanh", {}]], {"date": "2024-01-01"})


def aged(folder):
    """Take the digests out of a zoo's files: as versions before them wrote it."""
    head = json.loads((folder / "zoo.json").read_text())
    (folder / "zoo.json").write_text(json.dumps({k: v for k, v in head.items() if k not in ("digest", "weights")}))
    save_file(load_file(folder / "weights.safetensors"), folder / "weights.safetensors")
    return folder


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
    aged(tmp_path)
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
    aged(tmp_path)
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
        (lambda text: "null", "it must hold a JSON object, got NoneType"),
        (lambda text: "[]", "it must hold a JSON object, got list"),
        (lambda text: '{"layout": 3, "snapshots": {}}', r"\w*Error"),
        (layout_gone, "KeyError: 'layout'"),
        (column_cut, "ValueError"),
    ],
)
def test_damaged_json_is_refused(small, tmp_path, damage, kind):
    small.save(tmp_path)
    aged(tmp_path)
    path = tmp_path / "zoo.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ZooError, match=rf"{tmp_path} is not a readable zoo: {kind}"):
        Zoo.load(tmp_path)


# Digests


@pytest.mark.parametrize("name", ["zoo.json", "weights.safetensors"])
def test_a_flipped_bit_is_refused(small, tmp_path, name):
    """A bit of a weight, of a score, of a digest, of the name of a field: none is used as it is."""
    small.save(tmp_path)
    whole = Zoo.load(tmp_path)
    for _ in flipped(tmp_path / name, 60):
        try:
            found = Zoo.load(tmp_path)
        except ZooError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017 - a bit of white space may change nothing
        else:
            assert torch.equal(found.weights, whole.weights)
            assert replace(found, weights=whole.weights) == whole


def test_weights_of_another_zoo_are_refused(small, tmp_path):
    small.save(tmp_path / "one")
    replace(small, weights=small.weights + 1).save(tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").rename(tmp_path / "one" / "weights.safetensors")
    with pytest.raises(ZooError, match=r"is not a readable zoo: its weights are those of another zoo\.json; train"):
        Zoo.load(tmp_path / "one")


def test_a_zoo_that_is_killed_between_its_two_files_loads(small, tmp_path, monkeypatch):
    """Both orders of a zoo that is saved again in half precision."""
    small.save(tmp_path)
    expected = small.weights.half().float()
    monkeypatch.setattr("hyperinit_training.zoo.zoo.write_record", lambda *_: None)
    small.save(tmp_path, half=True)
    assert torch.equal(Zoo.load(tmp_path).weights, expected)


def test_a_zoo_of_an_earlier_version_loads_and_its_digests_are_not_optional(small, tmp_path):
    small.save(tmp_path)
    aged(tmp_path)
    found = Zoo.load(tmp_path)
    assert torch.equal(found.weights, small.weights)
    assert replace(found, weights=small.weights) == small
    small.save(tmp_path)
    text = (tmp_path / "zoo.json").read_text()
    (tmp_path / "zoo.json").write_text(text.replace('"digest"', '"digesu"'))
    with pytest.raises(ZooError, match="it holds no digest of its contents; it is damaged, or an earlier version wro"):
        Zoo.load(tmp_path)


@pytest.mark.parametrize("folder", sorted(ROOT.glob("training/zoos/*")), ids=lambda folder: folder.name)
def test_the_zoos_in_the_repository_load(folder):
    assert len(Zoo.load(folder)) > 0


# What an artifact could not hold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": -1.0}, r"epoch must be a number from 0 to 3\.4e\+38, got -1\.0 for model 2"),
        ({"epoch": math.nan}, "epoch must be a number .* got nan"),
        ({"epoch": math.inf}, "epoch must be a number .* got inf"),
        ({"val": 1e300}, r"val must be a number .* got 1e\+300"),
        ({"test": math.nan}, "test must be a number .* got nan"),
        ({"val": "0.9"}, "val must be a number .* got '0.9'"),
        ({"val": None}, "val must be a number .* got None"),
        ({"epoch": 10**400}, "epoch must be a number .* got "),
        ({"split": "trian"}, "split must be one of train, val, test, got 'trian'"),
        ({"family": 1.5}, "model and family must be integers, got 2 and 1.5"),
        ({"model": 2**70}, "model and family must be integers, got "),
    ],
)
def test_a_snapshot_that_no_artifact_can_hold_is_refused(small, changes, message):
    with pytest.raises(ZooError, match=message):
        replace(small, snapshots=(*small.snapshots[:-1], replace(small.snapshots[-1], **changes)))


def test_weights_too_large_for_half_precision_are_not_saved_in_it(small, tmp_path):
    large = replace(small, weights=small.weights * 1e6)
    large.save(tmp_path)
    with pytest.raises(ZooError, match="half must be False for weights above 65504, got one of"):
        large.save(tmp_path, half=True)
    assert torch.equal(Zoo.load(tmp_path).weights, large.weights)


def test_columns_have_their_dtypes_whatever_the_callers_default(small):
    torch.set_default_dtype(torch.float64)
    try:
        assert (small.scores.dtype, small.families.dtype) == (torch.float32, torch.int64)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_full_disk_leaves_the_zoo_as_it_was(small, tmp_path, monkeypatch):
    small.save(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_files, "save_file", full)
    with pytest.raises(WriteError, match=r"weights.safetensors cannot be written, got: No space left on device"):
        replace(small, weights=small.weights + 1).save(tmp_path)
    assert torch.equal(Zoo.load(tmp_path).weights, small.weights)
    assert {path.name for path in tmp_path.iterdir()} == {"zoo.json", "weights.safetensors"}


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
