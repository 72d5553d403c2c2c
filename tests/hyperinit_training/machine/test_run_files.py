"""Files of a training run: atomic writes, tensors, optimizer state and logs."""

import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from hyperinit_training.machine import run_files
from hyperinit_training.machine.run_files import append_json, truncate_log, write_json, write_tensors, write_text


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
