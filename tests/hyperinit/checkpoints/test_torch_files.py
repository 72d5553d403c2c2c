"""Files of torch.save: foreign objects are replaced, and sizes are checked before anything is unpickled."""

import argparse
import collections
import enum
import functools
import io
import pathlib
import resource
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from hyperinit.checkpoints.torch_files import MOST_PICKLE, Foreign, load
from hyperinit.errors import ZooError

STATE = {"w": torch.ones(2, 3)}


class Attributes(dict):
    """As the hyperparameters of some training loops."""


class Kind(enum.Enum):
    A = 1


@pytest.mark.parametrize(
    "other",
    [
        argparse.Namespace(lr=0.1), pathlib.PosixPath("data"), np.float64(3), np.ones(3), Attributes(a=1), Kind.A,
        collections.defaultdict(int, a=1), collections.deque([1, 2]), functools.partial(print, end=""), slice(1, 2),
        frozenset([1]), ValueError("text"), Attributes, object(), 1j, 2**200, {torch.float16, torch.device("cpu")},
    ],
    ids=lambda other: type(other).__name__,
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_beside_any_object_are_read(tmp_path, other, zipped):
    torch.save(
        {"state_dict": STATE, "other": [other, {"deep": other}]},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=zipped,
    )
    safe = torch.serialization.get_safe_globals()
    found = load(tmp_path / "a.pt")
    assert torch.equal(found["state_dict"]["w"], STATE["w"])
    assert set(torch.serialization.get_safe_globals()) == set(safe), "torch's list of safe classes is as before"


def test_an_object_becomes_a_stand_in_that_holds_nothing(tmp_path):
    torch.save({"args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pt")
    found = load(tmp_path / "a.pt")["args"]
    assert isinstance(found, Foreign)
    assert (type(found).__module__, type(found).__qualname__, vars(found)) == ("argparse", "Namespace", {})


def test_classes_that_the_user_allows_are_kept(tmp_path):
    torch.save({"args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert load(tmp_path / "a.pt")["args"].lr == 0.1


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Write a file of torch.save again, with other contents of its pickle."""
    raw = io.BytesIO()
    torch.save(STATE, raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(path, "w", compression) as new:
        for record in old.infolist():
            data = old.read(record)
            new.writestr(record.filename, change(data) if record.filename.endswith("data.pkl") else data)


def test_a_small_file_that_unpacks_to_a_large_pickle_is_refused_at_little_cost(tmp_path):
    rewritten(tmp_path / "a.pt", lambda data: data[:2] + b"}" * 10**8 + data[2:], zipfile.ZIP_DEFLATED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ZooError, match=r"uncompressed records, as torch.save writes them, got .*data.pkl of 100,000,1"):
        load(tmp_path / "a.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_compressed_tensors_are_refused_and_not_taken_for_numbers(tmp_path):
    rewritten(tmp_path / "a.pt", bytes, zipfile.ZIP_DEFLATED)
    with pytest.raises(ZooError, match=r"must hold uncompressed records, as torch.save writes them, got "):
        load(tmp_path / "a.pt")


def test_a_large_pickle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hyperinit.checkpoints.torch_files.MOST_PICKLE", 1000)
    torch.save({"losses": list(range(1000)), **STATE}, tmp_path / "a.pt")
    with pytest.raises(
        ZooError, match=r"a.pt must hold at most 1,000 bytes beside its tensors, got 2,929; write the state dict alone"
    ):
        load(tmp_path / "a.pt")
    assert MOST_PICKLE == 2**26


def test_an_archive_with_a_comment_or_a_record_twice_is_refused(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.comment = b"PK"
    with pytest.raises(ZooError, match=r"a.pt must be a file of torch.save, got an archive that another program wrote"):
        load(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 1)).save(str(tmp_path / "a.pt"))
    with pytest.raises(ZooError, match=r"a.pt must hold a state dict, got a TorchScript program; write it again with"):
        load(tmp_path / "a.pt")
