"""The index of the embedded sources: entries are added and replaced. `registry build` is tested in cli/test_hub.py."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files import atomic
from hyperinit.hub import index, publish, sources


def test_the_index_lists_file_digest_size_and_title(folder):
    entry = json.loads((folder / "registry.json").read_text())["mnist"]
    digest = sha256(b"mnist" * 100).hexdigest()
    assert entry == {"file": "mnist.safetensors", "sha256": digest, "size": 500, "title": "mnist, 100 models"}


def test_the_shipped_index_would_be_written_as_it_is(tmp_path, monkeypatch):
    shipped = sources.FOLDER
    entries = sources.embedded()
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    for name, entry in entries.items():
        (tmp_path / entry.file).write_bytes((shipped / entry.file).read_bytes())
        publish.register_embedded(tmp_path / entry.file, name, entry.title)
    assert (tmp_path / "registry.json").read_bytes() == (shipped / "registry.json").read_bytes()


def test_registering_again_replaces_the_entry_and_leaves_nothing_beside_it(folder):
    path = folder / "mnist.safetensors"
    path.write_bytes(b"better")
    publish.register_embedded(path, "mnist", "better models")
    assert sources.available() == {"mnist": "better models", "svhn-v2": "svhn-v2, 100 models"}
    assert sources.find("mnist").digest == sha256(b"better").hexdigest()
    assert sorted(file.name for file in folder.iterdir()) == [
        "mnist.safetensors",
        "registry.json",
        "svhn-v2.safetensors",
    ]


def test_a_failed_write_leaves_the_old_registry(folder, monkeypatch):
    before = (folder / "registry.json").read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        publish.register_embedded(folder / "mnist.safetensors", "mnist", "new")
    assert (folder / "registry.json").read_bytes() == before
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("name", "title", "message"),
    [
        ("Mnist", "t", r"name must be lower case letters, digits and hyphens, got 'Mnist'"),
        ("../x", "t", r"name must be .* got '../x'"),
        ("mnist", " ", r"title must be one line of text, got ' '"),
        ("mnist", "a\nb", r"title must be one line of text, got 'a\\nb'"),
    ],
)
def test_bad_names_are_not_registered(folder, name, title, message):
    with pytest.raises(ArgumentError, match=message):
        publish.register_embedded(folder / "mnist.safetensors", name, title)


def test_only_small_files_of_the_folder_are_registered(folder, monkeypatch):
    Path("mine.safetensors").write_bytes(b"x")
    with pytest.raises(ArgumentError, match=r"path must lie in .*pretrained, got mine.safetensors"):
        publish.register_embedded("mine.safetensors", "mine", "mine")
    with pytest.raises(ArtifactError, match=r"path must be an existing .safetensors file, got .*gone.safetensors"):
        publish.register_embedded(folder / "gone.safetensors", "gone", "gone")
    monkeypatch.setattr(sources, "LARGEST", 499)
    with pytest.raises(ArtifactError, match=r"at most 499 bytes, .*mnist.safetensors has 500"):
        publish.register_embedded(folder / "mnist.safetensors", "mnist", "mnist")


@pytest.fixture
def zoo(artifact):
    """A folder with one artifact, and what macOS leaves beside it."""
    zoo = artifact.parent / "zoo"
    zoo.mkdir()
    artifact.rename(zoo / "nets.safetensors")
    (zoo / "._nets.safetensors").write_bytes(b"attributes of macOS")
    return zoo


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRET@a.org",
        "https://SECRET@a.org/zoo",
        "https://a.org/zoo?token=SECRET",
        "https://a.org/zoo#SECRET",
        "https://me:SECRET@[::1/",
        "http://me:SEC/SECRET@a.org",
        "ftp://me:SECRET@a.org",
        "me:SECRET@a.org",
    ],
)
def test_a_secret_is_neither_written_to_an_index_nor_shown(zoo, url):
    with pytest.raises(ArgumentError, match=r"^base-url must ") as caught:
        publish.build(zoo, url)
    assert "SECRET" not in str(caught.value)
    assert not (zoo / "index.json").exists()


@pytest.mark.parametrize(
    "url", ["http://[::1/", "http://a:b/", "https://", "https://a.org/\n", "https://a b/", "", "/x"]
)
def test_a_base_that_is_no_address_is_refused(zoo, url):
    with pytest.raises(ArgumentError, match=r"^base-url must be an http or https address, got '"):
        publish.build(zoo, url)


def test_a_built_index_lists_artifacts_only_and_can_be_read(zoo):
    found = publish.build(zoo, "https://a.org:80/zoo/")
    assert index.parsed((zoo / "index.json").read_bytes(), "here") == found
    assert found["nets"].mirrors == ["https://a.org:80/zoo/nets.safetensors"]


def test_an_index_that_the_reader_would_refuse_is_not_written(zoo, monkeypatch):
    monkeypatch.setattr(index, "LARGEST_INDEX", 100)
    with pytest.raises(ArtifactError, match=r"an index must have at most 100 bytes, .*index.json would have"):
        publish.build(zoo)
    assert not (zoo / "index.json").exists()
