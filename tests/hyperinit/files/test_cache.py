"""The cache folder: its place, its names, deleting, and folders that cannot be written."""

import os
import subprocess
import sys
import warnings
from hashlib import sha256

import platformdirs
import pytest

from hyperinit.errors import ArgumentError, WriteError
from hyperinit.files import cache

OLD = "0123456789abcdef-old.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_spare", {})
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_hyperinit_home_replaces_the_systems_folder(home, monkeypatch):
    assert cache.path() == home
    assert not home.exists()
    monkeypatch.setenv("HYPERINIT_HOME", "~/there")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(cache.path()) == "/somewhere/there"
    monkeypatch.setenv("HYPERINIT_HOME", "")
    assert str(cache.path()) == platformdirs.user_cache_dir("hyperinit")


def test_names_hold_the_digest_and_only_safe_characters():
    assert cache.name("a" * 64, "../../x y.safetensors") == "aaaaaaaaaaaaaaaa-.._.._x_y.safetensors"
    assert len(cache.name("a" * 64, "x" * 999)) == 117


def test_only_files_of_ours_are_listed_and_deleted(home):
    assert (cache.entries(), cache.clear()) == ([], 0)
    home.mkdir()
    for name in (OLD, OLD + ".00.part", "thesis.tex", "0123-x"):
        (home / name).write_text("x")
    (home / "0123456789abcdef-folder").mkdir()
    assert [file.name for file in cache.entries()] == [OLD, OLD + ".00.part"]
    assert cache.clear() == 2
    assert sorted(os.listdir(home)) == ["0123-x", "0123456789abcdef-folder", "thesis.tex"]


def test_partial_files_of_killed_processes_are_deleted_after_a_day(home):
    home.mkdir()
    names = [OLD + ".00.part", OLD + ".part", OLD + ".part.tag", OLD, "mine.part"]
    for name in [*names, OLD + ".11.part"]:
        (home / name).write_text("x")
    for name in names:
        os.utime(home / name, (0, 0))
    assert cache.writable() == home
    assert sorted(os.listdir(home)) == sorted([OLD, "mine.part", OLD + ".11.part"])


def test_a_folder_that_cannot_be_written_is_replaced_with_one_warning(home):
    home.write_text("a file, so that it cannot be a folder, not even for root")
    with pytest.warns(RuntimeWarning, match=rf"{home} cannot be written .*set HYPERINIT_HOME") as caught:
        folder = cache.writable()
    assert caught[0].filename == cache.__file__
    (folder / OLD).write_bytes(b"abc")
    with warnings.catch_warnings(action="error"):
        assert cache.writable() == folder
        assert cache.find(OLD) == folder / OLD
    cache._remove_spare(os.getpid() + 1, folder)  # in a fork
    assert (folder / OLD).is_file()


def test_a_file_is_compared_with_digest_and_size(home):
    home.mkdir()
    (home / OLD).write_bytes(b"abc")
    digest = sha256(b"abc").hexdigest()
    assert cache.good(OLD, digest) == cache.good(OLD, digest, 3) == home / OLD
    assert cache.good(OLD, digest, 4) is None
    assert cache.good(OLD, "0" * 64) is None
    assert cache.good("0123456789abcdef-other", digest) is None
    (home / OLD).write_bytes(b"abd")
    os.utime(home / OLD, ns=(0, 1))
    assert cache.good(OLD, digest) is None


def test_the_temporary_folder_ends_with_the_process(home):
    home.write_text("a file")
    code = "from hyperinit.files import cache; print(cache.writable())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hyperinit-" in done.stdout
    assert not os.path.exists(done.stdout.strip())


def no_home(_):
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("answer", [lambda _: "~/.cache/hyperinit", no_home], ids=["old", "new"])
def test_without_a_home_folder_nothing_is_made_in_the_working_folder(monkeypatch, tmp_path, answer):
    """Old versions of platformdirs return the path as it is, new ones raise an error."""
    monkeypatch.setenv("HYPERINIT_HOME", "")
    monkeypatch.setattr(platformdirs, "user_cache_dir", answer)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"there is no home folder"):
        cache.writable()
    assert os.listdir(tmp_path) == []


def test_an_incoming_file_is_deleted_unless_it_is_renamed(home):
    with cache.incoming(OLD) as temporary:
        temporary.write_text("whole")
        os.replace(temporary, home / OLD)
    with cache.incoming(OLD) as temporary:
        temporary.write_text("half")
    assert os.listdir(home) == [OLD]


@pytest.mark.parametrize("place", ["~/c", "~nosuchuser/c"])
def test_a_home_that_does_not_exist_is_replaced_by_a_temporary_folder(monkeypatch, tmp_path, place):
    """Containers run programs as users without a home folder and without an entry of their own."""
    monkeypatch.setenv("HYPERINIT_HOME", place)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", dict().__getitem__)
    monkeypatch.chdir(tmp_path)
    assert cache.find(OLD) is None
    assert cache.entries() == []
    with pytest.warns(RuntimeWarning, match=r"there is no home folder.*set HYPERINIT_HOME"):
        folder = cache.writable()
    assert folder.is_absolute()
    assert os.listdir(tmp_path) == []


def test_without_any_writable_folder_the_error_says_what_to_set(home, monkeypatch):
    def fail(**_):
        raise FileNotFoundError("no usable temporary directory")

    home.write_text("a file")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", fail)
    with pytest.raises(WriteError, match=rf"{home} cannot be written .*no usable.*set HYPERINIT_HOME to a folder"):
        cache.writable()


def test_a_folder_with_a_name_that_is_too_long_holds_nothing(home, monkeypatch):
    home.mkdir()
    monkeypatch.setenv("HYPERINIT_HOME", str(home / ("x" * 300)))
    assert cache.find(OLD) is None
    with pytest.raises(ArgumentError, match=r"HYPERINIT_HOME must be a folder that can be read and written, got"):
        cache.entries()
    with pytest.warns(RuntimeWarning, match=r"cannot be written"):
        cache.writable()


def test_a_change_that_keeps_size_and_time_is_found(home):
    home.mkdir()
    (home / OLD).write_bytes(b"abc")
    digest, stat = sha256(b"abc").hexdigest(), (home / OLD).stat()
    assert cache.good(OLD, digest)
    (home / OLD).write_bytes(b"abd")
    os.utime(home / OLD, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.good(OLD, digest) is None


def test_a_link_that_leads_to_another_file_is_compared_again(home, tmp_path):
    home.mkdir()
    for name in (b"abc", b"abd"):
        (tmp_path / name.decode()).write_bytes(name)
        os.utime(tmp_path / name.decode(), ns=(0, 1))
    digest = sha256(b"abc").hexdigest()
    (home / OLD).symlink_to(tmp_path / "abc")
    assert cache.good(OLD, digest)
    (home / OLD).unlink()
    (home / OLD).symlink_to(tmp_path / "abd")
    assert cache.good(OLD, digest) is None
