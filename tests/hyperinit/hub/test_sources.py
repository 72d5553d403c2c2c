import hashlib
import json
import time
from pathlib import Path

import pytest

from hyperinit.errors import ArgumentError, ArtifactError, UnknownNameError
from hyperinit.hub import publish, sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An embedded folder with two registered sources, and the working folder beside it."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(sources, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "svhn-v2"):
        (folder / f"{name}.safetensors").write_bytes(name.encode() * 100)
        publish.register_embedded(folder / f"{name}.safetensors", name, f"{name}, 100 models")
    return folder


def test_embedded_sources_are_found_by_name(folder):
    assert sources.available() == {"mnist": "mnist, 100 models", "svhn-v2": "svhn-v2, 100 models"}
    assert sources.find("mnist") == folder / "mnist.safetensors"


def test_registry_holds_what_identifies_the_file(folder):
    entry = json.loads((folder / "registry.json").read_text())["mnist"]
    sha256 = hashlib.sha256(b"mnist" * 100).hexdigest()
    assert entry == {"file": "mnist.safetensors", "sha256": sha256, "size": 500, "title": "mnist, 100 models"}
    assert sources.digest(folder / "mnist.safetensors") == entry["sha256"]


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_found(folder, kind):
    Path("mine.safetensors").write_bytes(b"x")
    assert sources.find(kind("mine.safetensors")) == Path("mine.safetensors")
    assert sources.find(kind("./mine.safetensors")) == Path("mine.safetensors")


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert sources.find("~/mnist.safetensors") == folder / "mnist.safetensors"


def test_a_name_wins_over_a_folder_of_that_name(folder):
    Path("mnist").mkdir()
    assert sources.find("mnist") == folder / "mnist.safetensors"


@pytest.mark.parametrize(
    "source", ["none.safetensors", Path("none.safetensors"), "data/zoo", Path("mnist"), "dir.safetensors"]
)
def test_missing_files(folder, source):
    Path("dir.safetensors").mkdir()
    with pytest.raises(ArtifactError, match=r"source must be a name or an existing .safetensors file, got '[a-z./]+'$"):
        sources.find(source)


def test_unknown_names_help(folder):
    message = (
        r"^unknown source 'Mnits'; did you mean 'mnist'\? Sources: mnist, svhn-v2\. "
        r"A path must end in .safetensors, such as './mine.safetensors'$"
    )
    with pytest.raises(UnknownNameError, match=message):
        sources.find("Mnits")
    with pytest.raises(UnknownNameError, match=r"^unknown source 'zzz'; Sources: mnist, svhn-v2\. A path"):
        sources.find("zzz")


def test_without_a_registry_there_are_no_sources(folder):
    (folder / "registry.json").unlink()
    assert sources.available() == {}
    with pytest.raises(
        UnknownNameError, match=r"^unknown source 'mnist'; This installation embeds no sources\. A path"
    ):
        sources.find("mnist")


def test_another_size_is_refused_at_once(folder):
    with (folder / "mnist.safetensors").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactError, match=r"'mnist' \(.*\) has 501 bytes, expected 500; reinstall hyperinit"):
        sources.find("mnist")
    assert sources.find("svhn-v2")  # the others still work


def test_a_lost_file_is_named(folder):
    (folder / "mnist.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"'mnist' lacks its file .*mnist.safetensors; reinstall hyperinit"):
        sources.find("mnist")


def test_one_altered_byte_is_found_when_verified(folder):
    path = sources.find("mnist")
    sources.verify(path)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert sources.find("mnist") == path  # same size
    with pytest.raises(
        ArtifactError, match=r"'mnist' \(.*\) has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; reinstall"
    ):
        sources.verify(path)


def test_of_the_users_own_files_nothing_is_known(folder):
    path = Path("mnist.safetensors")
    path.write_bytes(b"not the embedded one")
    sources.verify(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"mnist": {"file": "mnist.safetensors"}}', '{"mnist": []}', b"\xff"]
)
def test_damaged_registry(folder, content):
    (folder / "registry.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtifactError, match=r"registry.json is damaged \(.*\); reinstall hyperinit"):
        sources.find("mnist")


def test_registering_again_replaces_the_entry_and_leaves_nothing_beside_it(folder):
    path = folder / "mnist.safetensors"
    path.write_bytes(b"better")
    publish.register_embedded(path, "mnist", "better models")
    assert sources.available() == {"mnist": "better models", "svhn-v2": "svhn-v2, 100 models"}
    sources.verify(sources.find("mnist"))
    assert sorted(file.name for file in folder.iterdir()) == [
        "mnist.safetensors",
        "registry.json",
        "svhn-v2.safetensors",
    ]


def test_a_failed_write_leaves_the_old_registry(folder, monkeypatch):
    before = (folder / "registry.json").read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(sources.os, "replace", fail)
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
    with pytest.raises(ArtifactError, match=r"existing .safetensors file, got .*gone.safetensors"):
        publish.register_embedded(folder / "gone.safetensors", "gone", "gone")
    monkeypatch.setattr(sources, "LARGEST", 499)
    with pytest.raises(ArtifactError, match=r"at most 499 bytes, .*mnist.safetensors has 500"):
        publish.register_embedded(folder / "mnist.safetensors", "mnist", "mnist")


def test_finding_is_quick(folder):
    """Below 0.2 ms; the fastest of many, since the machine may be busy."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        sources.find("mnist")
        best = min(best, time.perf_counter() - start)
    assert best < 2e-4


def test_the_shipped_registry_is_true():
    for name in sources.available():
        path = sources.find(name)
        sources.verify(path)
        assert path.stat().st_size <= sources.LARGEST
