"""Downloads into the cache: once, again if the file is damaged, and by hand."""

import os
import warnings
from hashlib import sha256

import pytest

from hyperinit.errors import DownloadError
from hyperinit.files import cache
from hyperinit.hub import download


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_spare", {})
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def wanted(server):
    digest = sha256(server.body).hexdigest()
    return download.Wanted(urls=(f"{server.url}/a",), digest=digest, size=len(server.body), name="a.safetensors")


def test_a_file_is_downloaded_once(server, wanted, home):
    path = download.fetched(wanted)
    assert path == home / cache.name(wanted.digest, "a.safetensors")
    assert path.read_bytes() == server.body
    assert download.fetched(wanted) == download.fetched(wanted, offline=True) == path
    assert len(server.seen) == 1


@pytest.mark.parametrize("change", [lambda raw: b"?" + raw[1:], lambda raw: raw[:-1]], ids=["altered", "cut off"])
def test_a_damaged_file_is_downloaded_again(server, wanted, change):
    path = download.fetched(wanted)
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(0, 1))
    with pytest.raises(DownloadError, match=rf"{path.name} is damaged; remove offline=True to download it"):
        download.fetched(wanted, offline=True)
    assert download.fetched(wanted).read_bytes() == server.body
    assert len(server.seen) == 2


def test_a_file_saved_by_hand_is_found(server, wanted, home):
    with pytest.raises(DownloadError, match=rf"or by hand: put {server.url}/a at {home}/\w+-a.safetensors$") as caught:
        download.fetched(wanted, offline=True)
    home.mkdir()
    with open(str(caught.value).rpartition(" ")[2], "wb") as file:
        file.write(server.body)
    assert download.fetched(wanted, offline=True).parent == home
    assert not server.seen


def test_without_a_writable_cache_a_file_is_downloaded_once_in_a_process(server, wanted, home):
    home.write_text("a file, so that it cannot be a folder")
    with pytest.warns(RuntimeWarning, match=r"cannot be written"):
        path = download.fetched(wanted)
    assert path.read_bytes() == server.body
    with warnings.catch_warnings(action="error"):
        assert download.fetched(wanted) == path
    assert len(server.seen) == 1
