"""The file of a source, and safe looks at paths that a user gave."""

import os
from pathlib import Path

import pytest

from hyperinit.files import found
from hyperinit.files.found import Found

PATH = Path("a.safetensors")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


def test_path_and_digest_tell_files_apart_and_the_name_does_not():
    assert Found(PATH, "0" * 64, "a") == Found(PATH, "0" * 64, "b")
    assert hash(Found(PATH, "0" * 64, "a")) == hash(Found(PATH, "0" * 64, "b"))
    assert Found(PATH, "0" * 64, "a") != Found(PATH, None, "a")
    assert Found(PATH, None, "a") != Found(Path("b.safetensors"), None, "a")


@pytest.mark.parametrize("path", ["~nosuchuser/a", "~nosuchuser"])
def test_an_unknown_home_stays_as_it_is(path):
    assert found.expanded(path) == Path(path)


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert found.expanded("~/a") == Path("/somewhere/a")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\udc80", "missing", "x" * 5000 + "/a"])
def test_a_name_that_no_file_can_have_is_no_file(tmp_path, name):
    assert not found.is_file(tmp_path / name)
    assert not found.is_pointer(tmp_path / name)


def test_pointers_are_told_from_files(tmp_path):
    (tmp_path / "a").write_bytes(POINTER)
    (tmp_path / "b").write_bytes(b"\0" * 2000)
    (tmp_path / "c").write_bytes(POINTER + b"\0" * 2000)  # too long for a pointer
    assert [found.is_pointer(tmp_path / name) for name in "abc"] == [True, False, False]


def test_only_small_regular_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert found.contents(tmp_path / "a", 3) == b"abc"
    with pytest.raises(OSError, match=r"at most 2 bytes"):
        found.contents(tmp_path / "a", 2)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"must be a regular file"):
            found.contents(path, 3)
