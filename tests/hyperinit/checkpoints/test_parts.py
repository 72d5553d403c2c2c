"""Names of checkpoint files, and networks in several files beside an index."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hyperinit.checkpoints.parts import check_pointer, is_index, parts_of
from hyperinit.errors import ZooError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("model.safetensors.index.json", True), ("pytorch_model.bin.index.fp16.json", True), ("index.json", False),
        ("model.safetensors", False),
    ],
)  # fmt: skip
def test_an_index_is_known_by_its_name(name, index):
    assert is_index(Path(name)) is index


def test_an_index_names_the_tensors_of_each_part(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    with pytest.raises(ZooError, match=r"parts beside it, it lacks one.safetensors; copy it$"):
        parts_of(index)
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "one.safetensors")
    assert parts_of(index) == {"one.safetensors": {"a", "b"}}


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": {"w": "../one.safetensors"}}', POINTER])
def test_an_index_that_cannot_be_used_is_refused(tmp_path, text):
    (tmp_path / "model.bin.index.json").write_text(text)
    with pytest.raises(ZooError, match=r"model.bin.index.json (must|is)"):
        parts_of(tmp_path / "model.bin.index.json")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.bin").write_text(POINTER)
    with pytest.raises(ZooError, match=r"a.bin must be the file itself, got a Git LFS pointer .*; run `git lfs pull`"):
        check_pointer(tmp_path / "a.bin")
