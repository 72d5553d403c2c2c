"""A file is replaced as a whole or not at all, and digests of files."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from hyperinit.errors import DownloadError, WriteError
from hyperinit.files import atomic
from hyperinit.files.atomic import digest, replacing


def test_the_file_appears_whole_and_readable(tmp_path):
    with replacing(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert (tmp_path / "deep" / "a.txt").stat().st_mode & 0o777 == 0o644


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_digests_are_those_of_the_command_line(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(str(tmp_path / "a"), "md5") == "900150983cd24fb0d6963f7d28e17f72"


def test_file_and_folder_are_on_the_disk_before_the_block_ends(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: done.append(os.fstat(handle).st_ino) or sync(handle))
    monkeypatch.setattr(atomic.os, "replace", lambda *paths: done.append("replaced") or replace(*paths))
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert done == [(tmp_path / "a.txt").stat().st_ino, "replaced", tmp_path.stat().st_ino]


def half_written(path, error):
    path.write_text("half")
    raise error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some disk space"),
        (OSError(errno.EROFS, "Read-only file system"), "choose a path that can be written"),
        (SafetensorError("Error while serializing: I/O error: No space left (os error 28)"), "free some disk space"),
    ],
)
def test_an_error_of_the_disk_names_the_file_and_the_remedy(tmp_path, error, remedy):
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(WriteError, match=rf"a\.txt cannot be written, got: .*; {remedy}$"),
        replacing(tmp_path / "a.txt") as temporary,
    ):
        half_written(temporary, error)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_full_disk_when_the_file_is_finished_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(WriteError, match=r"No space left"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_file_system_without_fsync_is_no_error(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_our_own_errors_pass_unchanged(tmp_path):
    with pytest.raises(DownloadError, match=r"^mine$"), replacing(tmp_path / "a.txt"):
        raise DownloadError("mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/dev/null", ".", "x" * 256, "/proc/nothing/a", "~/a", "~nosuchuser/a"])
def test_what_cannot_be_a_file_is_refused_and_left_alone(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError), replacing(Path(path)) as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())
    assert Path("/dev/null").is_char_device()


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 127 + "x")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
