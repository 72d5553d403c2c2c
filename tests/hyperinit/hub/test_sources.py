"""Sources on this machine: embedded ones and paths, and their digests."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

import hyperinit
from hyperinit.errors import ArgumentError, ArtifactError, HyperinitError, UnknownNameError
from hyperinit.files.found import Found
from hyperinit.hub import sources


def test_embedded_sources_are_found_by_name(folder):
    assert sources.available() == {"mnist": "mnist, 100 models", "svhn-v2": "svhn-v2, 100 models"}
    found = sources.find("mnist")
    assert found == Found(folder / "mnist.safetensors", sha256(b"mnist" * 100).hexdigest(), "mnist")
    assert found.name == "mnist"


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_found(folder, kind):
    Path("mine.safetensors").write_bytes(b"x")
    for name in ("mine.safetensors", "./mine.safetensors"):
        found = sources.find(kind(name))
        assert (found.path, found.digest, found.name) == (Path("mine.safetensors"), None, "mine")


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert sources.find("~/mnist.safetensors").path == folder / "mnist.safetensors"


def test_a_name_wins_over_a_folder_of_that_name(folder):
    Path("mnist").mkdir()
    assert sources.find("mnist").path == folder / "mnist.safetensors"


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
    with pytest.raises(
        ArtifactError, match=r"'mnist' of .*mnist.safetensors has 501 bytes, expected 500; reinstall hyp"
    ):
        sources.find("mnist")
    assert sources.find("svhn-v2")  # the others still work


def test_a_lost_file_is_named(folder):
    (folder / "mnist.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"'mnist' of .*: .*mnist.safetensors is missing; reinstall hyperinit$"):
        sources.find("mnist")


ALTERED = r"'mnist' of .*: .*mnist.safetensors has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; reinstall hyperinit$"


def alter(path):
    """Change a byte and the time of change, but not the size."""
    path.write_bytes(b"?" + path.read_bytes()[1:])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("place", ["name", "path", "link"])
def test_one_altered_byte_of_an_embedded_file_is_found(folder, tmp_path, place):
    path = folder / "mnist.safetensors"
    (tmp_path / "link.safetensors").symlink_to(path)
    source = {"name": "mnist", "path": path, "link": "link.safetensors"}[place]
    assert sources.find(source).digest == sha256(path.read_bytes()).hexdigest()
    alter(path)
    with pytest.raises(ArtifactError, match=ALTERED):
        sources.find(source)


def test_a_link_to_an_embedded_file_keeps_its_path(folder, tmp_path):
    (tmp_path / "link.safetensors").symlink_to(folder / "mnist.safetensors")
    assert sources.find("link.safetensors").path == Path("link.safetensors")


def test_an_embedded_file_that_is_a_link_is_compared_with_its_digest(folder, tmp_path):
    """Some installers link each file of a package to their cache."""
    path, cached = folder / "mnist.safetensors", tmp_path / "archive-v0"
    path.rename(cached)
    path.symlink_to(cached)
    assert sources.find("mnist").path == path
    alter(cached)
    with pytest.raises(ArtifactError, match=ALTERED):
        sources.find("mnist")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_forged_artifact_behind_a_link_is_not_loaded(embedded, forge, tmp_path, monkeypatch, linked):
    """A forged file has a valid digest inside, so only the index of the embedded sources can tell."""
    forged = forge(lambda _, tensors: tensors["std"].mul_(2))
    path = embedded / "tiny.safetensors"
    assert path.stat().st_size == forged.stat().st_size
    path.unlink()
    if linked == "file":
        path.symlink_to(forged)
    else:
        forged.rename(path)
        (tmp_path / "link").symlink_to(embedded)
        monkeypatch.setattr(sources, "FOLDER", tmp_path / "link")
    with pytest.raises(ArtifactError, match=r"'tiny' of .* has SHA-256 .*; reinstall hyperinit$"):
        hyperinit.load("tiny")


def test_a_representation_remembers_its_file(embedded, artifact):
    path = embedded / "tiny.safetensors"
    hr = hyperinit.load("tiny")
    assert hr.found == Found(path, sha256(path.read_bytes()).hexdigest(), "tiny")
    assert hyperinit.load(path) is hr
    assert hyperinit.load(artifact).found == Found(artifact, None, "tiny")


def test_a_users_file_has_no_known_digest(folder):
    path = Path("mnist.safetensors")
    path.write_bytes(b"not the embedded one")
    assert sources.find(path) == Found(path, None, "mnist")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"mnist": {"file": "mnist.safetensors"}}', '{"mnist": []}', b"\xff"]
)
def test_damaged_registry(folder, content):
    (folder / "registry.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtifactError, match=r"registry.json must be an index of sources .*; reinstall hyperinit$"):
        sources.find("mnist")


def test_finding_is_quick(folder):
    """Below 0.2 ms; the fastest of many, since the machine may be busy."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        sources.find("mnist")
        best = min(best, time.perf_counter() - start)
    assert best < 2e-4


def test_a_change_that_keeps_size_and_time_of_an_embedded_file_is_found(folder):
    path = folder / "mnist.safetensors"
    stat = path.stat()
    sources.find("mnist")
    path.write_bytes(b"?" + path.read_bytes()[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ArtifactError, match=ALTERED):
        sources.find("mnist")


def test_a_hard_link_to_an_embedded_file_is_compared_with_its_digest(folder):
    os.link(folder / "mnist.safetensors", "link.safetensors")
    assert sources.find("link.safetensors").digest
    alter(folder / "mnist.safetensors")
    with pytest.raises(ArtifactError, match=ALTERED):
        sources.find("link.safetensors")


@pytest.mark.parametrize(
    "source",
    ["~nosuchuser/a.safetensors", "x" * 300 + ".safetensors", "a/" * 3000 + "a.safetensors", "a\0.safetensors"],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_paths_that_no_file_can_have_are_missing_files(folder, source, kind):
    with pytest.raises(ArtifactError, match=r"^source must be a name or an existing .safetensors file, got '"):
        sources.find(kind(source))


def test_a_path_in_a_folder_that_cannot_be_read_is_a_missing_file(folder, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    found = sources.embedded()
    monkeypatch.setattr(sources, "embedded", lambda: found)
    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(ArtifactError, match=r"^source must be a name or an existing"):
        sources.find("private/a.safetensors")


@pytest.mark.parametrize("source", [None, 5, b"mnist", ["mnist"]])
def test_what_is_no_source_at_all_is_refused(folder, source):
    with pytest.raises(ArgumentError, match=r"^source must be a name, a path or an address, got "):
        sources.find(source)


def test_a_git_lfs_pointer_says_how_to_get_the_file(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    Path("mine.safetensors").write_bytes(pointer)
    with pytest.raises(ArtifactError, match=r"got mine.safetensors, a Git LFS pointer .*; run `git lfs pull`"):
        sources.find("mine.safetensors")
    (folder / "mnist.safetensors").write_bytes(pointer)
    with pytest.raises(ArtifactError, match=r"mnist.safetensors is a Git LFS pointer .*; run `git lfs pull`"):
        sources.find("mnist")


@pytest.mark.parametrize("source", ["me:SECRET@a.org", "https:/me:SECRET@a.org/x", "me:SECRET@a.org/x.safetensors"])
def test_addresses_without_their_slashes_show_no_secret(folder, source):
    with pytest.raises(HyperinitError, match=r"a\.org") as caught:
        sources.find(source)
    assert "SECRET" not in str(caught.value)
