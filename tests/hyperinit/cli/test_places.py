"""Outputs are checked before any work: names, what exists, and whether the place can be written."""

import os

import pytest

from hyperinit.cli import places
from hyperinit.cli.places import check_file, check_folder, check_room
from hyperinit.errors import ArgumentError


def test_a_new_file_is_accepted_and_nothing_is_written(tmp_path):
    check_file(tmp_path / "new" / "deep" / "a.safetensors", force=False)
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_needs_force(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("mine")
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "nowhere")
    for found in (path, link):
        with pytest.raises(
            ArgumentError, match=r"^--out must be a new file, got .*, which exists; pass --force to replace"
        ):
            check_file(found, force=False)
        check_file(found, force=True)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["a", "a.pt", "a.SAFETENSORS", ".safetensors", "a.safetensors.gz"])
def test_a_file_has_the_ending(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"^OUT must end in .safetensors, got "):
        check_file(tmp_path / name, force=False, option="OUT")


@pytest.mark.parametrize("check", [lambda path: check_file(path, force=True), check_folder])
def test_names_that_no_file_may_have_are_refused(tmp_path, check):
    with pytest.raises(ArgumentError, match=r"must be a name without control characters, got a\\x1b"):
        check(tmp_path / "a\x1b.safetensors")
    with pytest.raises(ArgumentError, match=r"must have names of at most 255 bytes, got "):
        check(tmp_path / ("é" * 200 + ".safetensors"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"must lie in a folder that can be written, got .*: Not a directory$"):
        check(tmp_path / "file" / "a" if check is check_folder else tmp_path / "file" / "a.safetensors")


def test_a_folder_in_place_of_a_file_is_refused_also_with_force(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(ArgumentError, match=r"^--out must be a file, got the folder "):
        check_file(tmp_path / "a.safetensors", force=True)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_must_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ArgumentError, match=r"must lie in a folder that can be written, got .*: Permission denied$"):
        check_file(tmp_path / "a.safetensors", force=False)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["nets.pt", "nets.safetensors", "nets.ZIP", "nets.ckpt"])
def test_a_folder_has_no_name_of_a_file(tmp_path, name):
    with pytest.raises(ArgumentError, match=rf"^--out must be a folder, got .*{name}, which has the ending of a file$"):
        check_folder(tmp_path / name)
    (tmp_path / name).mkdir()
    check_folder(tmp_path / name)
    check_folder(tmp_path / "nets.v2" / "new")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "nets").write_text("")
    with pytest.raises(ArgumentError, match=r"^--run must be a folder, got the file "):
        check_folder(tmp_path / "nets", option="--run")


def test_the_disk_must_have_room(tmp_path):
    check_room(tmp_path / "new", 1)
    with pytest.raises(
        ArgumentError, match=r"^--out must lie on a disk with 1,000,000,000,000,000,000 bytes free, got "
    ):
        check_room(tmp_path / "new", 10**18)


def test_errors_of_the_system_are_put_in_words():
    assert places.reason(OSError(13, "Permission denied", "/a\x1b")) == "Permission denied: /a\\x1b"
    assert places.reason(OSError("anything")) == "anything"
