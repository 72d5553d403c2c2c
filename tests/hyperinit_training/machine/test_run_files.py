"""Files of a training run: atomic writes, tensors, optimizer state and logs."""

import json
import os
import stat

import pytest
import torch
from flips import flipped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hyperinit.errors import WriteError, ZooError
from hyperinit_training.machine import run_files
from hyperinit_training.machine.run_files import (
    append_json,
    read_record,
    read_tensors,
    truncate_log,
    write_json,
    write_record,
    write_tensors,
    write_text,
)


def fail(*_, **__):
    raise KeyboardInterrupt


def test_files_are_read_back_as_written(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "turned": torch.arange(6).view(2, 3).T}
    write_tensors(tmp_path / "new" / "t.safetensors", tensors, {"key": "value"})
    write_json(tmp_path / "j.json", {"a": [1, None], "b": 0.1})
    write_text(tmp_path / "t.txt", "text")
    back, metadata = run_files.read_tensors(tmp_path / "new" / "t.safetensors")
    assert all(torch.equal(back[name], value) for name, value in tensors.items())
    assert metadata == {"key": "value"}
    assert json.loads((tmp_path / "j.json").read_text()) == {"a": [1, None], "b": 0.1}
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["j.json", "t.safetensors", "t.txt"]


def test_an_optimizer_resumes_from_its_tensors(tmp_path):
    def stepped(weight, optimizer):
        optimizer.zero_grad()
        weight.pow(2).sum().backward()
        optimizer.step()
        return weight.detach().clone()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    before = stepped(weight, optimizer)
    saved = {f"optimizer.{key}": value for key, value in run_files.optimizer_tensors(optimizer).items()}
    write_tensors(tmp_path / "t.safetensors", {"weight": before} | saved)
    tensors, _ = run_files.read_tensors(tmp_path / "t.safetensors")
    copy = torch.nn.Parameter(tensors["weight"])
    resumed = torch.optim.Adam([copy], lr=0.1)
    run_files.load_optimizer(resumed, run_files.prefixed(tensors, "optimizer."))
    assert torch.equal(stepped(copy, resumed), stepped(weight, optimizer))


def test_other_users_may_read_a_written_file(tmp_path):
    """The temporary file is readable by its owner only. The final file must not be."""
    write_text(tmp_path / "t.txt", "text")
    assert stat.S_IMODE((tmp_path / "t.txt").stat().st_mode) == 0o644


def test_an_interrupt_while_tensors_are_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.ones(2)})

    def half(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(run_files, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.zeros(2)})
    assert torch.equal(load_file(path)["a"], torch.ones(2))
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_text_replaces_a_file_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unserializable_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "j.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, object())
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("cut", ['{"step": 2, "lo', "7", "[]", '{"loss": 1}', '{"step": null}', ""])
def test_truncating_a_log_removes_later_and_incomplete_lines(tmp_path, cut):
    log = tmp_path / "log.jsonl"
    for step in (1, 2, 3):
        append_json(log, {"step": step})
    with log.open("a") as file:
        file.write(cut)
    truncate_log(log, 2)
    append_json(log, {"step": 5})
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 5]


def test_truncating_a_missing_log_creates_no_file(tmp_path):
    truncate_log(tmp_path / "log.jsonl", 2)
    assert not list(tmp_path.iterdir())


def test_a_log_with_a_damaged_line_is_truncated(tmp_path):
    """A log is a record for its reader. Nothing that is trained depends on it."""
    log = tmp_path / "log.jsonl"
    for step in (1, 2):
        append_json(log, {"step": step})
    log.write_bytes(log.read_bytes().replace(b"2", b"\xff") + b'{"step": 3}\n')
    truncate_log(log, 2)
    assert log.read_text() == '{"step": 1}\n'


# Digests

TENSORS = {
    "a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.bfloat16), "step": torch.tensor(7.0),
    "empty": torch.zeros(0, 4), "state": torch.arange(9, dtype=torch.uint8),
}  # fmt: skip


def test_a_flipped_bit_of_tensors_or_of_their_header_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, TENSORS, {"step": "7", "dtype": "torch.float32"})
    whole, words = read_tensors(path)
    assert words == {"step": "7", "dtype": "torch.float32"}
    refused = 0
    for _ in flipped(path, 200):
        try:
            found, metadata = read_tensors(path)
        except ZooError:
            refused += 1
        else:  # a blank in the header
            assert metadata == words
            assert found.keys() == whole.keys()
            assert all(torch.equal(found[name], value) for name, value in whole.items())
    assert refused > 190


def test_a_flipped_bit_of_a_record_is_refused(tmp_path):
    path = tmp_path / "r.json"
    data = {"steps": 120, "minutes": 0.5, "names": ("a", "b"), "nothing": None}
    write_record(path, data)
    expected = data | {"names": ["a", "b"]}
    assert read_record(path) == expected
    refused = 0
    for _ in flipped(path, 100):
        try:
            assert read_record(path) == expected
        except ZooError:
            refused += 1
    assert refused > 70  # the others hit blanks


def test_a_file_without_a_digest_is_only_read_as_one_of_an_earlier_version(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "t.safetensors", {"key": "value"})
    (tmp_path / "r.json").write_text('{"models": 4}')
    for read in (lambda: read_tensors(tmp_path / "t.safetensors"), lambda: read_record(tmp_path / "r.json")):
        with pytest.raises(ZooError, match=r"it holds no digest of its contents; it is damaged, or an earlier version"):
            read()
    assert read_tensors(tmp_path / "t.safetensors", old=True)[1] == {"key": "value"}
    assert read_record(tmp_path / "r.json", old=["models"]) == {"models": 4}
    with pytest.raises(ZooError, match="it holds no digest"):
        read_record(tmp_path / "r.json", old=["families"])


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\xff", "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ZooError):
        read_record(tmp_path / "r.json", old=["models"])


def test_a_missing_file_is_no_damaged_one(tmp_path):
    for read in (read_tensors, read_record):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


# Full disks


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
)
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_tensors(path, {"a": torch.ones(1)}),
        lambda path: write_record(path, {"a": 2}),
        lambda path: write_json(path, 2),
        lambda path: write_text(path, "new"),
        lambda path: append_json(path, {"a": 2}),
        lambda path: truncate_log(path, 1),
    ],
)
def test_a_full_disk_is_a_clear_error_and_leaves_the_file(tmp_path, monkeypatch, write, error):
    path = tmp_path / "old"
    path.write_text("old")

    def full(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "save_file", full)
        patch.setattr(type(path), "write_text", full)
        patch.setattr(type(path), "open", full)
        with pytest.raises(
            WriteError, match=r"old cannot be written, got: .*No space left on device.*; free some disk"
        ):
            write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
