"""Registries that are damaged on purpose or by accident: broken addresses, too much, secrets, other files."""

import json
import os
from hashlib import sha256

import pytest

import hyperinit
from hyperinit.errors import ArgumentError, ArtifactError, DownloadError, HyperinitError
from hyperinit.hub import index, sources

RAW = b"the file of nets" * 100
ENTRY = {"file": "nets.safetensors", "sha256": sha256(RAW).hexdigest(), "size": len(RAW), "title": "some nets"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_recent", {})
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "nothing embedded")
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYPERINIT_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "nets.safetensors").write_bytes(RAW)
    (tmp_path / "zoo" / "index.json").write_text(json.dumps({"nets": ENTRY}))
    monkeypatch.setenv("HYPERINIT_REGISTRY", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def parse(**change):
    return index.parsed(json.dumps({"nets": {**ENTRY, **change}}).encode(), "here")


@pytest.mark.parametrize(
    "mirror", ["http://[::1/", "http://a:b/", "//[::1", "ftp://a/b", "http://", "http://me:SECRET@[::1/?SECRET"]
)
def test_a_broken_mirror_is_named_without_its_secrets(mirror):
    message = r"'nets': a mirror must be an http or https address, or a path relative to the index, got '"
    with pytest.raises(ArtifactError, match=message) as caught:
        parse(mirrors=["nets.safetensors", mirror])
    assert "SECRET" not in str(caught.value)


def test_the_number_of_mirrors_is_limited():
    assert parse(mirrors=["a"] * 16)
    with pytest.raises(ArtifactError, match=r"'nets': mirrors must be at most 16 addresses, got 9,000"):
        parse(mirrors=["a"] * 9000)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": ' + b"9" * 5000 + b"}",
        json.dumps({"nets": ENTRY}).replace("1600", "9" * 5000).encode(),
        json.dumps({"nets": ENTRY}).replace("1600", "9" * 100).encode(),
        json.dumps({"nets": ENTRY}).replace("1600", "1e999").encode(),
        json.dumps({"nets": ENTRY}).replace("1600", "NaN").encode(),
        b'{"nets": {}, "nets": {}}',
        b'{"a": [' + b"[]," * 200_000 + b"[]]}",
        b'{"a":' * 50_000,
        "{}".encode("utf-16")[:-1],
        ('{"a": "' + "ä" * 2**20 + '"}').encode(),
    ],
    ids=["number", "size", "long size", "inf", "nan", "twice", "many", "deep", "utf-16", "wide"],
)
def test_a_hostile_index_is_refused(raw):
    with pytest.raises(ArtifactError, match=r"^here must be an index of sources") as caught:
        index.parsed(raw, "here")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16"])
def test_an_index_of_another_editor_is_read(encoding):
    entry = {**ENTRY, "title": "Zürich"}
    raw = json.dumps({"nets": entry}, ensure_ascii=False).encode(encoding)
    assert index.parsed(raw, "here")["nets"].title == "Zürich"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
def test_an_index_that_is_no_small_file_is_refused(folder, monkeypatch, kind):
    path = folder / "index.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b" " * (index.LARGEST_INDEX + 1))
    with pytest.raises(ArtifactError, match=r"index.json cannot be read, got: it must .*; check HYPERINIT_REGISTRY"):
        hyperinit.sources()


@pytest.mark.parametrize("mirror", ["x" * 300, "a/" * 3000, "a%00b"])
def test_a_mirror_that_no_file_can_have_is_missing(folder, mirror):
    (folder / "index.json").write_text(json.dumps({"nets": {**ENTRY, "mirrors": [mirror]}}))
    with pytest.raises(ArtifactError, match=r"is missing; check HYPERINIT_REGISTRY"):
        sources.find("nets")


def test_a_git_lfs_pointer_in_a_folder_says_how_to_get_the_file(folder):
    (folder / "nets.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ArtifactError, match=r"nets.safetensors is a Git LFS pointer .*run `git lfs pull`"):
        sources.find("nets")


@pytest.mark.parametrize("place", ["~nosuchuser/zoo", "x" * 300, "x" * 300 + "/index.json", "a\u202eb"])
def test_a_place_that_no_folder_can_have_is_named(monkeypatch, place):
    monkeypatch.setenv("HYPERINIT_REGISTRY", place)
    with pytest.raises(ArtifactError, match=r"cannot be read, got: .*; check HYPERINIT_REGISTRY"):
        hyperinit.sources()


@pytest.mark.parametrize(
    "place",
    [
        "http://[::1/",
        "https://a:b/",
        "https://me:SECRET@[::1/",
        "https://me:SEC/SECRET@a.org/",
        "ftp://me:SECRET@a.org/",
        "https://a.org/#token=SECRET",
        "https://me:SECRET@a.org/#sha256=SECRET",
        "http://a.org/?token=SECRET",
    ],
)
def test_a_broken_address_of_a_registry_shows_no_secret(monkeypatch, place):
    monkeypatch.setenv("HYPERINIT_REGISTRY", place)
    with pytest.raises(ArgumentError) as caught:
        hyperinit.sources()
    assert "SECRET" not in str(caught.value)


def test_secrets_of_a_registry_are_used_and_not_shown(server, monkeypatch):
    host = server.url.removeprefix("http://")
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"http://me:SECRET@{host}/index.json?token=SECRET")
    for answer in ("404", "wrong", ""):
        server.plan = [answer]
        server.files["/index.json?token=SECRET"] = json.dumps({"nets": ENTRY} if not answer else []).encode()
        if answer:
            with pytest.raises(HyperinitError) as caught:
                index.entries()
            assert "SECRET" not in str(caught.value)
    assert index.entries()["nets"].title == "some nets"
    assert all(headers["Authorization"].startswith("Basic ") for headers in server.headers)
    server.plan = ["404"]
    for offline in (True, False):
        with pytest.raises(DownloadError) as caught:
            sources.find("nets", offline=offline)
        assert "SECRET" not in str(caught.value)


def test_a_file_whose_name_has_signs_of_addresses_is_found_beside_the_index(server, monkeypatch):
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"{server.url}/zoo/")
    server.files["/zoo/index.json"] = json.dumps({"nets": {**ENTRY, "file": "a?b#c.safetensors"}}).encode()
    server.files["/zoo/a%3Fb%23c.safetensors"] = RAW
    assert sources.find("nets").path.read_bytes() == RAW


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hyperinit.files.cache.digest", fail)
    monkeypatch.setattr(index, "digest", fail)
    with pytest.raises(ArtifactError, match=r"nets.safetensors cannot be read: Permission denied; check"):
        sources.find("nets")
