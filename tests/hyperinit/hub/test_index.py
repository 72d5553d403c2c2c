"""Registries on a web server and in a folder: their entries, where files come from, and what is refused."""

import json
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

import hyperinit
from hyperinit.errors import ArgumentError, ArtifactError, DownloadError, UnknownNameError
from hyperinit.files.found import Found
from hyperinit.hub import index, sources

RAW = b"the file of nets" * 100
HEX = sha256(RAW).hexdigest()
ENTRY = {"file": "nets.safetensors", "sha256": HEX, "size": len(RAW), "title": "some nets"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_recent", {})
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "nothing embedded")
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYPERINIT_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def served(server, monkeypatch):
    """Serve an index of `nets`; call it with changes to the entry."""

    def serve(**changes):
        server.files["/zoo/index.json"] = json.dumps({"nets": {**ENTRY, **changes}}).encode()

    serve()
    server.files["/zoo/nets.safetensors"] = server.files["/else/where"] = RAW
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"{server.url}/zoo/")
    return serve


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "nets.safetensors").write_bytes(RAW)
    (tmp_path / "zoo" / "index.json").write_text(json.dumps({"nets": ENTRY}))
    monkeypatch.setenv("HYPERINIT_REGISTRY", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def places(server):
    return [place for place, *_ in server.seen]


def test_without_the_variable_there_is_none(monkeypatch):
    monkeypatch.delenv("HYPERINIT_REGISTRY", raising=False)
    assert index.entries() == {}
    assert hyperinit.sources() == {}


def test_a_served_source_is_found_by_name_and_kept(server, served, home):
    assert hyperinit.sources() == {"nets": "some nets"}
    path = sources.find("nets").path
    assert path == home / f"{HEX[:16]}-nets.safetensors"
    assert path.read_bytes() == RAW
    assert sources.find("nets").path == path
    assert places(server) == ["/zoo/index.json", "/zoo/nets.safetensors"]
    assert sorted(file.name[16:] for file in home.iterdir()) == ["-index.json", "-nets.safetensors"]


def test_mirrors_are_relative_to_the_index_or_whole_addresses(server, served):
    served(mirrors=["gone", f"{server.url}/else/where"])
    server.plan = ["", "404"]
    assert sources.find("nets").path.read_bytes() == RAW
    assert places(server) == ["/zoo/index.json", "/zoo/gone", "/else/where"]


@pytest.mark.parametrize("change", [{"size": len(RAW) + 1}, {"sha256": "0" * 64}], ids=["size", "digest"])
def test_a_file_that_is_not_the_one_listed_is_refused(server, served, home, change):
    served(**change)
    with pytest.raises(
        DownloadError, match=rf"^nets.safetensors could not be downloaded: {server.url}/zoo/nets.*expected"
    ):
        sources.find("nets")
    assert [file.name[16:] for file in home.iterdir()] == ["-index.json"]


def test_offline_index_and_file_come_from_the_cache(server, served, monkeypatch):
    path = sources.find("nets").path
    server.seen.clear()
    monkeypatch.setattr(index, "_recent", {})
    assert sources.find("nets", offline=True).path == path
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    assert sources.find("nets").path == path
    assert hyperinit.sources() == {"nets": "some nets"}
    assert not server.seen


def test_offline_without_a_cache_the_error_says_what_to_do(server, served):
    with pytest.raises(
        DownloadError,
        match=r"index.json is missing; remove offline=True .*by hand: save http.*/zoo/index",
    ):
        sources.find("nets", offline=True)
    hyperinit.sources()
    with pytest.raises(DownloadError, match=r"nets.safetensors is missing; remove offline.*put http.*/zoo/nets.safe"):
        sources.find("nets", offline=True)
    assert places(server) == ["/zoo/index.json"]


def test_the_index_is_downloaded_again_after_a_while(server, served, monkeypatch):
    assert hyperinit.sources() == {"nets": "some nets"}
    served(title="better nets")
    assert hyperinit.sources() == {"nets": "some nets"}
    monkeypatch.setattr(index, "FRESH", -1)
    assert hyperinit.sources() == {"nets": "better nets"}


def test_a_damaged_index_does_not_replace_the_cached_one(server, served, monkeypatch, home):
    hyperinit.sources()
    monkeypatch.setattr(index, "FRESH", -1)
    server.files["/zoo/index.json"] = b"<html>"
    with pytest.raises(ArtifactError, match=r"/zoo/index.json must be an index of sources as `hyperinit registry"):
        hyperinit.sources()
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    assert hyperinit.sources() == {"nets": "some nets"}
    assert len(os.listdir(home)) == 1


def test_the_size_of_an_index_is_limited(server, served, monkeypatch):
    monkeypatch.setattr(index, "LARGEST_INDEX", 100)
    with pytest.raises(
        DownloadError, match=r"index.json could not be downloaded: .*more than 100.*set HYPERINIT_REGISTRY"
    ):
        hyperinit.sources()


def test_a_pinned_index_is_checked_and_downloaded_once(server, served, monkeypatch):
    pin = sha256(server.files["/zoo/index.json"]).hexdigest()
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"{server.url}/zoo/index.json#sha256={pin}")
    for _ in range(2):
        assert sources.find("nets").path.read_bytes() == RAW
        assert hyperinit.sources() == {"nets": "some nets"}
    assert places(server) == ["/zoo/index.json", "/zoo/nets.safetensors"]
    monkeypatch.setenv("HYPERINIT_REGISTRY", f"{server.url}/zoo/index.json#sha256={'0' * 64}")
    with pytest.raises(DownloadError, match=rf"/zoo/index.json has SHA-256 {pin}, expected 0000"):
        hyperinit.sources()


@pytest.mark.parametrize("place", ["http://example.org/index.json", "ftp://localhost/", "http://me:pw@a.org/"])
def test_an_unsafe_address_of_the_index_is_refused(monkeypatch, place):
    monkeypatch.setenv("HYPERINIT_REGISTRY", place)
    with pytest.raises(ArgumentError, match=r"HYPERINIT_REGISTRY must be a folder, https://\.\.\., .*got '") as caught:
        hyperinit.sources()
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("ending", ["", "/index.json"])
def test_files_of_a_folder_are_used_in_place(folder, monkeypatch, home, ending):
    monkeypatch.setenv("HYPERINIT_REGISTRY", str(folder) + ending)
    assert hyperinit.sources() == {"nets": "some nets"}
    assert sources.find("nets", offline=True) == Found(folder / "nets.safetensors", HEX, "nets")
    assert not home.exists()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (None, "is missing"),
        (RAW[1:], "has 1,599 bytes, expected 1,600"),
        (b"?" + RAW[1:], f"has SHA-256 [0-9a-f]{{64}}, expected {HEX}"),
    ],
    ids=["missing", "cut off", "altered"],
)
def test_a_folder_must_hold_the_files_that_it_lists(folder, raw, problem):
    (folder / "nets.safetensors").unlink()
    if raw:
        (folder / "nets.safetensors").write_bytes(raw)
    with pytest.raises(ArtifactError, match=rf"'nets' of .*index.json: .*zoo/nets.safetensors {problem}; check"):
        sources.find("nets")


def test_a_folder_may_list_files_on_the_network(server, folder):
    server.files["/x"] = RAW
    entry = {**ENTRY, "mirrors": ["gone.safetensors", f"{server.url}/x"]}
    (folder / "index.json").write_text(json.dumps({"nets": entry}))
    assert sources.find("nets").path.read_bytes() == RAW


def test_a_place_that_is_no_registry_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERINIT_REGISTRY", str(tmp_path / "none"))
    with pytest.raises(ArtifactError, match=r"the index .*none cannot be read, got: .*; check HYPERINIT_REGISTRY"):
        hyperinit.sources()


def test_embedded_sources_win_and_do_not_ask_the_registry(server, served, embedded):
    served_index = json.loads(server.files["/zoo/index.json"])
    server.files["/zoo/index.json"] = json.dumps({**served_index, "tiny": ENTRY}).encode()
    assert sources.find("tiny").path == embedded / "tiny.safetensors"
    assert not server.seen
    assert hyperinit.sources() == {"tiny": "an untrained source for tests", "nets": "some nets"}


def test_unknown_names_help_with_those_of_the_registry(served, embedded):
    with pytest.raises(UnknownNameError, match=r"unknown source 'netts'; did you mean 'nets'\? Sources: tiny, nets\."):
        sources.find("netts")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../nets.safetensors"}, r"'nets': file must be the plain name"),
        ({"file": "nets.bin"}, r"'nets': file must be the plain name"),
        ({"sha256": "0"}, r"'nets': sha256 must be 64 hexadecimal digits, got '0'"),
        ({"size": 0}, r"'nets': size must be 1 to"),
        ({"size": True}, r"'nets': size must be 1 to"),
        ({"title": "two\nlines"}, r"'nets': a field has the wrong type, or is not a single line"),
        ({"title": None}, r"'nets': a field has the wrong type"),
        ({"mirrors": "a"}, r"'nets': a field has the wrong type"),
        ({"card": []}, r"'nets': a field has the wrong type"),
    ],
)
def test_damaged_entries_are_named(change, message):
    with pytest.raises(ArtifactError, match=message):
        index.parsed(json.dumps({"nets": {**ENTRY, **change}}).encode(), "here")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a": 1}', b'{"a": {}}', b'{"A b": {}}', b"\xff", b"[" * 100_000])
def test_what_is_no_index_is_refused(raw):
    with pytest.raises(ArtifactError, match=r"^here must be an index of sources"):
        index.parsed(raw, "here")


def test_unknown_fields_are_ignored():
    assert index.parsed(json.dumps({"nets": {**ENTRY, "new": 1}}).encode(), "here")["nets"].title == "some nets"


def test_the_example_in_the_docs_is_an_index():
    text = (Path(__file__).parents[3] / "docs" / "hub.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    [entry] = index.parsed(example.replace("64 hexadecimal digits", HEX).encode(), "docs").values()
    assert len(entry.mirrors) == 2
