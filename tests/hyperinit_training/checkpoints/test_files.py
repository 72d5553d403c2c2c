"""Files of checkpoints: which are found in folders, by patterns and in lists, and which are left out."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from hyperinit.checkpoints.parts import is_index, parts_of
from hyperinit.errors import ArgumentError, ZooError
from hyperinit_training.checkpoints.files import find_files
from hyperinit_training.machine.run_files import write_tensors

ENDINGS = ".safetensors, .pt, .pth, .ckpt, .bin, .tar"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def names(source):
    return list(find_files(source).paths)


@pytest.fixture
def folder(tmp_path):
    """Four checkpoints in nested folders, and two other files."""
    for name in ("b.pt", "a.safetensors", "run/c.pth", "run/deep/d.pt", "notes.md", "run/log.csv"):
        path = tmp_path / "zoo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "zoo"


def test_a_folder_gives_its_checkpoints_with_those_of_subfolders(folder):
    found = find_files(folder).paths
    assert list(found) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt"]
    assert found["run/c.pth"] == folder / "run" / "c.pth"


def test_a_glob_gives_what_it_matches(folder):
    assert names(f"{folder}/*") == ["a.safetensors", "b.pt"]
    assert names(f"{folder}/run/**/*.pt*") == ["c.pth", "deep/d.pt"]


def test_a_list_is_relative_to_its_own_folder(folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"# best of each\nzoo/run/c.pth\n\n{folder}/b.pt\n")
    assert names(tmp_path / "list.txt") == ["b.pt", "run/c.pth"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("zoo/b.pt\nzoo/run/../b.pt\n", r"list.txt must list every file once, got .*run/../b.pt again$"),
        ("zoo/b.pt\nzoo/gone.pt\n", r"list.txt must list .* files, got .*gone.pt, which does not exist$"),
        ("zoo/notes.md\n", rf"list.txt must list {ENDINGS} files, got .*notes.md$"),
        ("# nothing\n", rf"list.txt must hold {ENDINGS} files, got none$"),
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
    with pytest.raises(ZooError, match=rf"must hold {ENDINGS} files, got none$"):
        find_files(f"{tmp_path}/{pattern}")


@pytest.mark.parametrize("name", ["best.ckpt", "pytorch_model.bin", "checkpoint-9.pth.tar", "last.pt.tar", "old.tar"])
def test_the_usual_endings_of_training_loops_are_found(tmp_path, name):
    for zipped in (True, False):
        torch.save({"w": torch.ones(1)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        assert names(tmp_path) == names(f"{tmp_path}/*") == [name]


def test_other_formats_with_a_shared_ending_are_no_checkpoints(folder):
    for name in ("data.tar", "index.bin", "old.ckpt"):
        (folder / name).write_bytes(b"another format")
    assert names(folder) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt"]


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "scaler.pt", "training_args.bin",
     "optimizer.bin", "random_states_0.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "optimizer_1.pt"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["folder", "pattern"])
def test_the_state_of_a_training_beside_a_network_is_left_out(tmp_path, name, kind):
    for file in (name, "model.safetensors"):
        (tmp_path / "checkpoint-500").mkdir(exist_ok=True)
        (tmp_path / "checkpoint-500" / file).write_bytes(b"PK\x03\x04")
    found = find_files(tmp_path if kind == "folder" else f"{tmp_path}/*/*")
    assert [path.name for path in found.paths.values()] == ["model.safetensors"]
    assert {name.rpartition("/")[2]: why for name, why in found.left_out.items()} == {name: "state of a training"}


def test_if_nothing_but_other_files_is_found_the_error_names_them(tmp_path):
    (tmp_path / "optimizer.pt").touch()
    with pytest.raises(ZooError, match=r"files, got none but optimizer.pt$"):
        find_files(tmp_path)


def test_metadata_of_macos_is_left_out(folder, tmp_path):
    (folder / "._b.pt").write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "b.pt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "list.txt").write_text("zoo/b.pt\nzoo/._b.pt\n")
    assert names(folder) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt"]
    assert names(tmp_path / "list.txt") == ["b.pt"]
    assert set(find_files(folder).left_out) == {"._b.pt", "__MACOSX/b.pt"}


def test_files_that_hyperinit_wrote_are_left_out(folder, tiny):
    tiny.save(folder / "mine.safetensors")
    save_file({"w": torch.ones(1)}, folder / "ens.safetensors", {"hyperinit-ensemble": "{}"})
    write_tensors(folder / "runs" / "mine" / "checkpoint.safetensors", {"w": torch.ones(1)})
    save_file({"weights": torch.ones(1)}, folder / "weights.safetensors")
    (folder / "zoo.json").touch()
    save_file({"w": torch.ones(1)}, folder / "sampled.safetensors", {"source": "mnist", "seed": "0"})
    found = find_files(folder)
    assert list(found.paths) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt", "sampled.safetensors"]
    assert set(found.left_out.values()) == {"written by hyperinit"}
    assert len(found.left_out) == 4


# Networks in several files


def write_parts(folder, suffix=".safetensors", variant="", count=2):
    """The files and the index of one network, as transformers writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    parts = {f"{i}.weight": f"{stem}{variant}-{i:05}-of-{count:05}{suffix}" for i in range(1, count + 1)}
    for tensor, name in parts.items():
        state = {tensor: torch.ones(2)}
        save_file(state, folder / name) if suffix == ".safetensors" else torch.save(state, folder / name)
    index = folder / f"{stem}{suffix}.index{variant}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": parts}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_an_index_stands_for_its_parts(tmp_path, suffix, variant):
    index = write_parts(tmp_path / "checkpoint-5", suffix, variant)
    (tmp_path / "list.txt").write_text(f"checkpoint-5/{index.name}\n")
    assert is_index(index)
    assert names(tmp_path) == [f"checkpoint-5/{index.name}"]
    for pattern in (f"{tmp_path}/**/*{suffix}", f"{tmp_path}/*/*", f"{tmp_path}/list.txt"):
        assert list(find_files(pattern).paths.values()) == [index]
    assert {tensor for part in parts_of(index).values() for tensor in part} == {"1.weight", "2.weight"}


def test_parts_without_an_index_are_files_of_their_own(tmp_path):
    """Networks may also be numbered like this: seed-00001-of-00050.pt."""
    write_parts(tmp_path).unlink()
    assert len(names(tmp_path)) == 2


def test_a_network_in_two_formats_is_found_once(tmp_path):
    write_parts(tmp_path)
    write_parts(tmp_path, ".bin")
    found = find_files(tmp_path)
    assert list(found.paths) == ["model.safetensors.index.json"]
    assert found.left_out == {"pytorch_model.bin.index.json": "the same network as model.safetensors.index.json"}
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    assert names(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"index.json is not JSON"),
        ("[" * 100_000, r"index.json must be JSON of a few levels"),
        ("[]", r"index.json must hold a weight_map from tensors to files, it does not; copy it again$"),
        ('{"weight_map": {}}', r"must hold a weight_map"),
        ('{"weight_map": {"w": 3}}', r"must hold a weight_map"),
        ('{"weight_map": {"w": "../model.safetensors"}}', r"must name .* files beside it, got ../model.safetensors$"),
        ('{"weight_map": {"w": "model.pkl"}}', r"must name .* files beside it, got model.pkl$"),
        ('{"weight_map": {"w": "gone.safetensors"}}', r"parts beside it, it lacks gone.safetensors; copy it$"),
        (
            POINTER,
            r"index.json must be the file itself, got a Git LFS pointer .*; run `git lfs pull`",
        ),
    ],
)
def test_an_index_that_cannot_be_used_is_explained(tmp_path, text, message):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ZooError, match=message):
        find_files(tmp_path)


# Sources that are hard to read


def test_a_pattern_ends_where_links_make_a_circle(folder):
    for name in ("one", "two"):
        os.symlink(folder, folder / name)
    os.symlink(folder / "run", folder / "aside")
    assert names(f"{folder}/**/*.pt") == ["b.pt", "run/deep/d.pt"]
    assert names(f"{folder}/**/**/deep/**/*.pt") == ["d.pt"]
    assert names(f"{folder}/**") == names(folder) == ["a.safetensors", "b.pt", "run/c.pth", "run/deep/d.pt"]


def test_a_folder_that_a_pattern_reaches_only_by_a_link_is_read(folder, tmp_path):
    os.symlink(folder, tmp_path / "link")
    (tmp_path / "other").mkdir()
    os.symlink(folder / "run", tmp_path / "other" / "run")
    assert names(f"{tmp_path}/link/**/*.pth") == names(f"{tmp_path}/other/**/*.pth") == ["c.pth"]


def test_a_folder_with_the_name_of_a_checkpoint_is_no_file(folder):
    (folder / "epoch=1.ckpt").mkdir()
    assert names(f"{folder}/*") == ["a.safetensors", "b.pt"]


@pytest.mark.parametrize(
    ("raw", "names"),
    [(b"\xef\xbb\xbfzoo/b.pt\r\nzoo/run/c.pth\r\n", ["b.pt", "run/c.pth"]), ("zoo/b.pt".encode("utf-16"), None)],
)
def test_a_list_may_begin_with_a_byte_order_mark_and_must_be_utf_8(folder, tmp_path, raw, names):
    (tmp_path / "list.txt").write_bytes(raw)
    if names is None:
        with pytest.raises(ArgumentError, match=r"list.txt must be UTF-8 text, got UTF-16; save it again as UTF-8$"):
            find_files(tmp_path / "list.txt")
    else:
        assert list(find_files(tmp_path / "list.txt").paths) == names


@pytest.mark.parametrize("source", ["a" * 5000, "a" * 5000 + "/*", "a\0b", "a\0*"])
def test_a_source_that_no_system_can_open_is_refused(source):
    with pytest.raises((ArgumentError, ZooError)):
        find_files(source)


def test_a_pointer_of_git_lfs_is_found(tmp_path):
    (tmp_path / "a.bin").write_text(POINTER)
    assert names(tmp_path) == ["a.bin"], "it is not left out in silence"
