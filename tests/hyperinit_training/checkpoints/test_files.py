"""Files of checkpoints: which files are found, which tensors are read, and the errors of bad files."""

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.checkpoints.files import NESTED, find_files, read_state

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([7.0, 8.0])}


@pytest.fixture
def folder(tmp_path):
    """Four checkpoints in nested folders, and two other files."""
    for name in ("b.pt", "a.safetensors", "run/c.pth", "run/deep/d.pt", "notes.md", "run/log.csv"):
        path = tmp_path / "zoo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "zoo"


def test_a_folder_gives_its_checkpoints_with_those_of_subfolders(folder):
    found = find_files(folder)
    assert list(found) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt"]
    assert found["run/c.pth"] == folder / "run" / "c.pth"


def test_a_glob_gives_what_it_matches(folder):
    assert list(find_files(f"{folder}/*")) == ["a.safetensors", "b.pt"]
    assert list(find_files(f"{folder}/run/**/*.pt*")) == ["c.pth", "deep/d.pt"]


def test_a_list_is_relative_to_its_own_folder(folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"# best of each\nzoo/run/c.pth\n\n{folder}/b.pt\n")
    assert list(find_files(tmp_path / "list.txt")) == ["b.pt", "run/c.pth"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("zoo/b.pt\nzoo/run/../b.pt\n", r"list.txt must list every file once, got .*run/../b.pt again$"),
        ("zoo/b.pt\nzoo/gone.pt\n", r"list.txt must list .* files, got .*gone.pt, which does not exist$"),
        ("zoo/notes.md\n", r"list.txt must list .safetensors, .pt, .pth files, got .*notes.md$"),
        ("# nothing\n", r"list.txt must hold .safetensors, .pt, .pth files, got none$"),
    ],
)
def test_a_list_that_cannot_be_used_is_explained(folder, tmp_path, lines, message):
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(ZooError, match=message):
        find_files(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["b.pt", "gone"])
def test_a_source_must_be_a_folder_a_pattern_or_a_list(folder, name):
    ending = ", which does not exist$" if name == "gone" else "b.pt'$"
    with pytest.raises(ArgumentError, match=rf"a folder, a glob pattern or a .txt file of paths, got .*{ending}"):
        find_files(folder / name)


@pytest.mark.parametrize("pattern", ["run/empty*", ""])
def test_nothing_found_is_an_error(tmp_path, pattern):
    with pytest.raises(ZooError, match=r"must hold .safetensors, .pt, .pth files, got none$"):
        find_files(f"{tmp_path}/{pattern}")


def equal(found, wanted):
    return list(found) == list(wanted) and all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("key", [None, *NESTED])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_found_where_training_loops_put_them(tmp_path, key, zipped):
    whole = {"epoch": 3, "optimizer": {"step": torch.tensor(1)}, key: STATE} if key else STATE
    torch.save(whole, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert equal(read_state(tmp_path / "a.pt"), STATE)


def test_nests_within_nests_are_found(tmp_path):
    torch.save({"model": {"state_dict": STATE}}, tmp_path / "a.pth")
    assert equal(read_state(tmp_path / "a.pth"), STATE)


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    found = read_state(tmp_path / "a.safetensors")
    assert equal({name: found[name] for name in STATE}, STATE)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in STATE.items()}, tmp_path / "a.pt")
    assert equal(read_state(tmp_path / "a.pt"), STATE)


def test_a_compiled_part_loses_its_prefix_and_other_names_stay(tmp_path):
    net = nn.ModuleDict({"module_list": nn.Linear(2, 1), "head": torch.compile(nn.Linear(2, 1), backend="eager")})
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.pt")) == ["module_list.weight", "module_list.bias", "head.weight", "head.bias"]


def test_a_tensor_with_and_without_prefix_is_refused(tmp_path):
    torch.save({"w": torch.ones(1), "module.w": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=r"a.pt must hold every tensor once, got w with and without a prefix$"):
        read_state(tmp_path / "a.pt")


class Harmful:
    """Would make a file when unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (nn.Linear(2, 1), "torch.nn.modules.linear.Linear"),
        ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        (Harmful(), "posix.system"),
    ],
)
def test_pickled_objects_are_named_and_not_run(tmp_path, monkeypatch, content, named):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "a.pt")
    message = rf"a.pt must hold tensors only, got a pickled {named}, .* torch.save\(model.state_dict\(\), path\)"
    with pytest.raises(ZooError, match=message):
        read_state(tmp_path / "a.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), r"a.pt must hold a state dict, got a Tensor$"),
        ({"net": STATE, "epoch": 3}, r"at the top or under state_dict, .*, got a dict under 'net'$"),
        ({**STATE, "lr": 0.1}, r"a.pt must hold a state dict.*got a float under 'lr'$"),
        ({3: torch.ones(1)}, r"got a Tensor under 3$"),
        ({}, r"got an empty one$"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=message):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", ["a.pt", "old.pt", "a.safetensors"])
def test_half_written_files_are_named(tmp_path, kind):
    path = tmp_path / kind
    if kind == "a.safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "a.pt")
    whole = path.read_bytes()
    for keep in (0, 1, 3, 8, *range(20, len(whole), len(whole) // 20), len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ZooError, match=rf"{kind} "):
            read_state(path)


def test_other_bytes_and_plain_pickles_are_refused(tmp_path):
    for content in (b"hello", b"<html>", bytes(1000), pickle.dumps({"a": 1}, 2), pickle.dumps(Harmful(), 2)):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(ZooError, match=r"a.pt "):
            read_state(tmp_path / "a.pt")
