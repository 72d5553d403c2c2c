"""Where downloaded files lie, what is deleted, and folders that cannot be written."""

import os
import subprocess
import sys
import warnings
from hashlib import sha256

import platformdirs
import pytest

from hyperinit.errors import DownloadError
from hyperinit.files import cache
from hyperinit.hub import download
from hyperinit.hub.download import Wanted

OLD = "0123456789abcdef-old.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_spare", {})
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def wanted(server):
    digest = sha256(server.body).hexdigest()
    return Wanted(urls=(f"{server.url}/a",), digest=digest, size=len(server.body), name="a.safetensors")


def test_the_folder_is_the_systems_unless_it_is_named(home, monkeypatch):
    assert cache.path() == home
    assert not home.exists()
    monkeypatch.setenv("HYPERINIT_HOME", "~/there")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(cache.path()) == "/somewhere/there"
    monkeypatch.setenv("HYPERINIT_HOME", "")
    assert str(cache.path()) == platformdirs.user_cache_dir("hyperinit")


def test_names_are_safe_and_say_what_they_hold():
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


def test_a_file_is_fetched_once(server, wanted, home):
    path = download.fetched(wanted)
    assert path == home / cache.name(wanted.digest, "a.safetensors")
    assert path.read_bytes() == server.body
    assert download.fetched(wanted) == download.fetched(wanted, offline=True) == path
    assert len(server.seen) == 1


@pytest.mark.parametrize("change", [lambda raw: b"?" + raw[1:], lambda raw: raw[:-1]], ids=["altered", "cut off"])
def test_a_damaged_file_is_fetched_again(server, wanted, change):
    path = download.fetched(wanted)
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(0, 1))
    with pytest.raises(DownloadError, match=rf"{path.name} is not whole and offline=True forbids to fetch it; leave"):
        download.fetched(wanted, offline=True)
    assert download.fetched(wanted).read_bytes() == server.body
    assert len(server.seen) == 2


def test_a_file_put_there_by_hand_is_found(server, wanted, home):
    with pytest.raises(DownloadError, match=rf"or by hand: put {server.url}/a at {home}/\w+-a.safetensors$") as caught:
        download.fetched(wanted, offline=True)
    home.mkdir()
    with open(str(caught.value).rpartition(" ")[2], "wb") as file:
        file.write(server.body)
    assert download.fetched(wanted, offline=True).parent == home
    assert not server.seen


def test_what_killed_processes_left_is_swept_after_a_day(home):
    home.mkdir()
    names = [OLD + ".00.part", OLD + ".part", OLD + ".part.tag", OLD, "mine.part"]
    for name in [*names, OLD + ".11.part"]:
        (home / name).write_text("x")
    for name in names:
        os.utime(home / name, (0, 0))
    assert cache.writable() == home
    assert sorted(os.listdir(home)) == sorted([OLD, "mine.part", OLD + ".11.part"])


def test_a_folder_that_cannot_be_written_gives_way_with_one_warning(server, wanted, home):
    home.write_text("a file, so that it cannot be a folder, not even for root")
    with pytest.warns(RuntimeWarning, match=rf"{home} cannot be written .*set HYPERINIT_HOME") as caught:
        path = download.fetched(wanted)
    assert caught[0].filename == cache.__file__
    assert path.read_bytes() == server.body
    with warnings.catch_warnings(action="error"):
        assert download.fetched(wanted) == path
        assert cache.writable() == path.parent
    assert len(server.seen) == 1
    cache._remove_spare(os.getpid() + 1, path.parent)  # in a fork
    assert path.is_file()


def test_the_temporary_folder_ends_with_the_process(home):
    home.write_text("a file")
    code = "from hyperinit.files import cache; print(cache.writable())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hyperinit-" in done.stdout
    assert not os.path.exists(done.stdout.strip())


def test_without_a_home_folder_nothing_is_made_in_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERINIT_HOME", "")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _: "~/.cache/hyperinit")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"there is no home folder"):
        cache.writable()
    assert os.listdir(tmp_path) == []


def test_what_is_incoming_goes_unless_it_gets_its_name(home):
    with cache.incoming(OLD) as temporary:
        temporary.write_text("whole")
        os.replace(temporary, home / OLD)
    with cache.incoming(OLD) as temporary:
        temporary.write_text("half")
    assert os.listdir(home) == [OLD]
