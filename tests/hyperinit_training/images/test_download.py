"""The table of official files and where they go; fetching itself is tested with hyperinit.hub.download."""

import hashlib

import pytest

from hyperinit.errors import DataError, UnknownNameError
from hyperinit_training.cli import commands
from hyperinit_training.images.download import FILES, Remote, fetch


@pytest.fixture
def body(server, monkeypatch):
    """What the only file of "svhn" holds, at two addresses of a server on this machine."""
    remote = Remote("a.mat", hashlib.md5(server.body).hexdigest(), (f"{server.url}/first", f"{server.url}/mirror"))
    monkeypatch.setitem(FILES, "svhn", (remote,))
    return server.body


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_whole_file_gets_its_name_and_nothing_else_is_left(server, body, tmp_path):
    server.plan = ["404"]
    [path] = fetch("svhn", tmp_path / "data")
    assert path == tmp_path / "data" / "svhn" / "a.mat"
    assert path.read_bytes() == body
    assert names(tmp_path) == ["a.mat"]
    assert [place for place, *_ in server.seen] == ["/first", "/mirror"]


def test_a_file_that_is_there_is_not_fetched_again(server, body, tmp_path):
    (tmp_path / "a.mat").write_bytes(body)
    assert fetch("svhn", tmp_path) == [tmp_path / "a.mat"]
    assert not server.seen


def test_a_file_that_is_there_with_other_bytes_is_kept_and_refused(server, body, tmp_path):
    (tmp_path / "a.mat").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a.mat must have the published MD5 [0-9a-f]{32}, got [0-9a-f]{32}; move it"):
        fetch("svhn", tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == b"mine"
    assert not server.seen


def test_wrong_bytes_everywhere_are_an_error_and_leave_nothing_behind(server, body, tmp_path):
    server.plan = ["wrong"] * 2
    message = (
        r"a.mat could not be downloaded: .*/first has MD5 .*, expected .*; the download was deleted; .*/mirror has"
    )
    with pytest.raises(DataError, match=message):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == []


def test_offline_no_socket_is_opened(server, body, tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    message = r"svhn/a.mat is missing; unset HYPERINIT_OFFLINE to download it, or by hand: put http.* at "
    with pytest.raises(DataError, match=message):
        fetch("svhn", tmp_path)
    assert not server.seen
    (tmp_path / "a.mat").write_bytes(body)
    assert fetch("svhn", tmp_path) == [tmp_path / "a.mat"]


def test_the_command_prints_where_the_files_are(body, tmp_path, capsys):
    assert commands.data(["svhn", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'svhn' / 'a.mat'} (0.3 MB, digest as published)\n"


def test_unknown_names_help(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown images 'digits'; digits come with scikit-learn; what can be"):
        fetch("digits", tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown images 'cats'; what can be fetched is mnist, svhn, cifar10"):
        fetch("cats", tmp_path)


@pytest.mark.parametrize("remote", [remote for files in FILES.values() for remote in files], ids=lambda r: r.name)
def test_the_table_is_well_formed(remote):
    assert len(bytes.fromhex(remote.md5)) == 16
    assert all(url.startswith("http") and url.endswith("/" + remote.name) for url in remote.urls)
