"""A server on this machine in place of the Hugging Face Hub: digests, commits, tokens, redirects, offline."""

import json
from contextlib import suppress
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save

from hyperinit.errors import ArgumentError, DownloadError, HyperinitError, WriteError
from hyperinit.hub import huggingface, sources

RAW = save({"w": torch.arange(4.0)})
OTHER = save({"w": torch.arange(5.0)})
HEX = sha256(RAW).hexdigest()
COMMIT, LATER = "a1" * 20, "b2" * 20
FILE = "hf://org/repo/nets/cnn.safetensors"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "_recent", {})
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def publish(server, home, monkeypatch):
    """Serve a file as the Hub does: `publish(raw, commit)` makes a new version on main, with its digest if `large`."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def publish(raw=RAW, commit=COMMIT, large=True, **headers):
        for revision in ("main", commit or "main"):
            place = f"/org/repo/resolve/{revision}/nets/cnn.safetensors"
            head = {"X-Repo-Commit": commit} if commit else {}
            if large:
                head |= {"X-Linked-Etag": f'"{sha256(raw).hexdigest()}"', "X-Linked-Size": str(len(raw))}
                head |= {"Location": "http://store.invalid/x", "Content-Length": "999"}
            else:
                head |= {"ETag": f'"{sha256(raw).hexdigest()[:40]}"', "Content-Length": str(len(raw))}
            server.heads[place] = (302 if large else 200, head | headers)
            server.files[place] = raw

    publish()
    return publish


def forget(server):
    """Forget the lookups of this process, as a new process would."""
    server.seen.clear()
    server.headers.clear()
    huggingface._recent.clear()


def places(server):
    return [place for place, *_ in server.seen]


@pytest.mark.parametrize("large", [True, False])
def test_a_file_is_fetched_once_at_its_commit(server, publish, home, large):
    publish(large=large)
    path = sources.find(FILE).path
    assert path == home / f"{HEX[:16]}-cnn.safetensors"
    assert path.read_bytes() == RAW
    assert places(server) == [f"/org/repo/resolve/{COMMIT}/nets/cnn.safetensors"]
    forget(server)
    assert sources.find(FILE).path == path
    assert len(server.headers) == 1  # one question, no file
    sources.find(FILE)
    assert len(server.headers) == 1  # and that once in a while


@pytest.mark.parametrize("large", [True, False])
def test_a_commit_that_is_cached_needs_no_network(server, publish, large):
    publish(large=large)
    path = sources.find(f"{FILE}@main").path
    forget(server)
    assert sources.find(f"{FILE}@{COMMIT}").path == path
    assert not server.headers


@pytest.mark.parametrize("large", [True, False])
def test_a_branch_that_moved_gives_the_new_file(server, publish, large):
    publish(large=large)
    old = sources.find(FILE).path
    publish(OTHER, LATER, large)
    forget(server)
    assert sources.find(FILE).path.read_bytes() == OTHER
    assert sources.find(f"{FILE}@{COMMIT}").path == old
    assert sources.find(FILE, offline=True).path.read_bytes() == OTHER


def test_without_a_commit_the_etag_tells_versions_apart(server, publish):
    publish(large=False, commit="")
    path = sources.find(FILE).path
    forget(server)
    assert sources.find(FILE).path == path
    assert not server.seen
    publish(OTHER, "", large=False)
    huggingface._recent.clear()
    assert sources.find(FILE).path.read_bytes() == OTHER


def test_without_commit_and_etag_it_is_fetched_again(server, publish):
    publish(large=False, commit="", ETag="")
    assert sources.find(FILE).path.read_bytes() == RAW
    forget(server)
    assert sources.find(FILE).path.read_bytes() == RAW
    assert len(server.seen) == 1


def test_offline_takes_cached_files_and_the_error_says_how_to_get_others(server, publish, monkeypatch):
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    message = r"/org/repo/resolve/main/nets/cnn.safetensors is not in the cache .*; unset HYPERINIT_OFFLINE .*save"
    with pytest.raises(DownloadError, match=message):
        sources.find(FILE)
    assert not server.headers
    monkeypatch.delenv("HYPERINIT_OFFLINE")
    path = sources.find(FILE).path
    forget(server)
    assert sources.find(FILE, offline=True).path == path
    with pytest.raises(DownloadError, match=r"resolve/v2/nets/cnn.safetensors is not in the cache .*; remove offline"):
        sources.find(f"{FILE}@v2", offline=True)
    assert not server.headers


def test_a_damaged_note_or_file_is_fetched_again(server, publish, home):
    path = sources.find(FILE).path
    for note in home.glob("*-note.json"):
        note.write_text("{")
    forget(server)
    assert sources.find(FILE).path == path
    path.write_bytes(RAW[:-1])
    forget(server)
    assert sources.find(f"{FILE}@{COMMIT}").path.read_bytes() == RAW
    assert len(server.seen) == 1


def test_bytes_other_than_stated_are_refused(server, publish, home):
    server.plan = ["wrong"]
    with pytest.raises(DownloadError, match=rf"has SHA-256 .*, expected {HEX}"):
        sources.find(FILE)
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.parametrize("raw", [b"<html>not here</html>", RAW[:-1]], ids=["another format", "cut off"])
def test_without_a_digest_the_format_is_checked(server, publish, home, raw):
    publish(raw, large=False)
    with pytest.raises(DownloadError, match=r"must be a complete safetensors file"):
        sources.find(FILE)
    assert list(home.iterdir()) == []


def test_without_a_digest_the_size_is_checked(server, publish, home):
    publish(large=False)
    server.plan = ["longer"]
    with pytest.raises(DownloadError, match=rf"has {len(RAW) + 1} bytes, expected {len(RAW)}\..*by hand: save http"):
        sources.find(FILE)
    assert list(home.iterdir()) == []


def test_redirects_within_the_hub_are_followed(server, publish):
    place = "/org/repo/resolve/main/nets/cnn.safetensors"
    server.heads["/moved"] = server.heads[place]
    server.heads[place] = (307, {"Location": "/moved"})
    assert sources.find(FILE).path.read_bytes() == RAW
    server.heads["/moved"] = (307, {"Location": "/moved"})
    huggingface._recent.clear()
    with pytest.raises(DownloadError, match=r"more than 5 redirects"):
        sources.find(FILE)


def test_the_token_goes_to_the_hub_only(server, publish, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
    server.plan = [f"to {server.url.replace('127.0.0.1', 'localhost')}/store"]
    server.files["/store"] = RAW
    assert sources.find(FILE).path.read_bytes() == RAW
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer hf_secret"] * 2 + [None]


@pytest.mark.parametrize("status", [401, 404])
def test_a_missing_or_private_file_is_explained(server, publish, status):
    server.heads = {"/org/repo/resolve/main/nets/cnn.safetensors": (status, {})}
    with pytest.raises(
        DownloadError, match=rf"HTTP status {status}. Check the name, set HF_TOKEN .*by hand.*OFFLINE=1"
    ):
        sources.find(FILE)
    assert len(server.headers) == 1


def test_revisions_and_names_are_quoted(server, publish):
    server.heads["/org/repo/resolve/refs%2Fpr%2F1/a%20b.safetensors"] = (200, {"X-Repo-Commit": COMMIT})
    server.files[f"/org/repo/resolve/{COMMIT}/a%20b.safetensors"] = RAW
    assert sources.find("hf://org/repo/a b.safetensors@refs/pr/1").path.name.endswith("-a_b.safetensors")


@pytest.mark.parametrize("token", ["hf\nX: y", "ключ", "two words"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(publish, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ArgumentError, match=r"^HF_TOKEN must be printable ASCII without spaces$"):
        sources.find(FILE)


def test_the_endpoint_must_be_safe(publish, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example.org")
    with pytest.raises(ArgumentError, match=r"HF_ENDPOINT must be https://..., got 'http://mirror.example.org'"):
        sources.find(FILE)


def test_notes_name_no_other_file(publish, home, tmp_path):
    """A note is data, not a path."""
    (tmp_path / "x").write_bytes(RAW)
    sources.find(FILE)
    for note in home.glob("*-note.json"):
        note.write_text(json.dumps({"sha256": "../x", "version": COMMIT}))
    huggingface._recent.clear()
    assert sources.find(FILE).path.parent == home


@pytest.mark.parametrize("large", [True, False])
def test_a_full_disk_after_the_download_gives_the_file_and_a_warning(publish, monkeypatch, large):
    def full(path):
        raise WriteError("no space")

    publish(large=large)
    monkeypatch.setattr(huggingface, "replacing", full)
    with pytest.warns(RuntimeWarning, match=r"cnn.safetensors will not be found offline: no space"):
        assert sources.find(FILE).path.read_bytes() == RAW


def test_a_file_that_is_damaged_soon_after_is_fetched_again(server, publish):
    path = sources.find(FILE).path
    path.write_bytes(bytes(len(RAW)))
    assert sources.find(FILE).path.read_bytes() == RAW
    path.write_bytes(bytes(len(RAW)))
    with pytest.raises(DownloadError, match=r"is not in the cache"):
        sources.find(FILE, offline=True)


@pytest.mark.parametrize(
    "note",
    ["[" * 100_000, '{"sha256": 5, "version": []}', '{"sha256": "x"}', "[]", '{"a": ' + "9" * 5000 + "}", "\xff"],
)
def test_a_note_that_is_damaged_in_any_way_is_written_again(publish, home, note):
    path = sources.find(FILE).path
    for file in home.glob("*-note.json"):
        file.write_text(note, encoding="latin-1")
    huggingface._recent.clear()
    with pytest.raises(DownloadError, match=r"is not in the cache"):
        sources.find(FILE, offline=True)
    assert sources.find(FILE).path == path


@pytest.mark.parametrize(
    "head",
    [
        {"X-Linked-Size": "9" * 5000},
        {"X-Linked-Size": "-1"},
        {"Location": "http://[::1/"},
        {"Location": "\xff"},
        {"X-Linked-Etag": "x" * 50_000, "X-Repo-Commit": "9" * 5000},
    ],
)
def test_broken_headers_of_the_hub_end_in_an_error_of_ours_or_the_file(publish, head):
    publish(**head)
    with suppress(HyperinitError):
        assert sources.find(FILE).path.read_bytes() == RAW


@pytest.mark.parametrize(
    "endpoint", ["http://me:SECRET@a.org", "https://me:SECRET@[::1", "https://me:SEC/SECRET@a.org"]
)
def test_secrets_of_the_endpoint_are_not_shown(publish, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(HyperinitError) as caught:
        sources.find(FILE, offline=True)
    assert "SECRET" not in str(caught.value)


def test_secrets_of_an_endpoint_that_answers_are_not_shown(server, publish, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("http://", "http://me:SECRET@"))
    for text in (FILE, f"{FILE}@missing"):
        server.plan = ["403"]
        with pytest.raises(DownloadError) as caught:
            sources.find(text)
        assert "SECRET" not in str(caught.value)


def test_a_missing_bundle_of_certificates_is_an_error_of_ours(publish, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(DownloadError, match=r"invalid path: /nowhere/ca.pem"):
        sources.find(FILE)


def test_a_git_lfs_pointer_in_place_of_a_file_is_named(publish, home):
    publish(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", large=False)
    with pytest.raises(DownloadError, match=r"must be a complete safetensors file, got: a Git LFS pointer"):
        sources.find(FILE)
    assert list(home.iterdir()) == []
