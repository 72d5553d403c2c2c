"""The table of official files and their target folders; hyperinit.hub.download has its own tests."""

import hashlib

import pytest

from hyperinit.errors import DataError, UnknownNameError
from hyperinit_training.cli import commands
from hyperinit_training.images import download as images_download
from hyperinit_training.images.download import FILES, Remote, fetch


@pytest.fixture
def body(server, monkeypatch):
    """The content of the only file of "svhn", which a local server has at two URLs."""
    remote = Remote("a.mat", hashlib.md5(server.body).hexdigest(), (f"{server.url}/first", f"{server.url}/mirror"))
    monkeypatch.setitem(FILES, "svhn", (remote,))
    return server.body


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_complete_file_is_stored_and_no_other_file_is_left(server, body, tmp_path):
    server.plan = ["404"]
    [path] = fetch("svhn", tmp_path / "data")
    assert path == tmp_path / "data" / "svhn" / "a.mat"
    assert path.read_bytes() == body
    assert names(tmp_path) == ["a.mat"]
    assert [place for place, *_ in server.seen] == ["/first", "/mirror"]


def test_an_existing_file_is_not_downloaded_again(server, body, tmp_path):
    (tmp_path / "a.mat").write_bytes(body)
    assert fetch("svhn", tmp_path) == [tmp_path / "a.mat"]
    assert not server.seen


def test_an_existing_file_with_another_digest_is_kept_and_rejected(server, body, tmp_path):
    (tmp_path / "a.mat").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a.mat must have the published MD5 [0-9a-f]{32}, got [0-9a-f]{32}; move it"):
        fetch("svhn", tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == b"mine"
    assert not server.seen


def test_wrong_bytes_from_every_url_are_an_error_and_leave_no_file(server, body, tmp_path):
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


def test_unknown_names_are_rejected_with_a_hint(tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"unknown images 'digits'; digits come with scikit-learn and need no download; choose"
    ):
        fetch("digits", tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown images 'cats'; choose from mnist, svhn, cifar10"):
        fetch("cats", tmp_path)


@pytest.mark.parametrize("remote", [remote for files in FILES.values() for remote in files], ids=lambda r: r.name)
def test_the_table_is_well_formed(remote):
    assert len(bytes.fromhex(remote.md5)) == 16
    assert all(url.startswith("http") and url.endswith("/" + remote.name) for url in remote.urls)


def test_a_git_lfs_pointer_in_place_of_a_file_is_named(server, body, tmp_path):
    (tmp_path / "a.mat").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(DataError, match=r"a.mat must be the published file, got a Git LFS pointer .*git lfs pull"):
        fetch("svhn", tmp_path)
    assert not server.seen


@pytest.mark.parametrize("name", ["x" * 300, "file/x"])
def test_a_folder_that_cannot_be_made_is_an_error_of_ours(body, tmp_path, name):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"a.mat could not be downloaded: "):
        fetch("svhn", tmp_path / name)


def test_a_file_that_cannot_be_read_is_an_error_of_ours(body, tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.mat").write_bytes(body)
    monkeypatch.setattr(images_download, "digest", fail)
    with pytest.raises(DataError, match=r"a.mat must be a file that can be read, got: Permission denied"):
        fetch("svhn", tmp_path)


def test_a_server_that_sends_without_end_is_given_up(server, body, tmp_path, monkeypatch):
    monkeypatch.setattr(images_download, "MOST", 300_000)
    server.plan = ["endless"] * 2
    with pytest.raises(DataError, match=r"/first sends more than 300,000 bytes; the download was deleted"):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == []
