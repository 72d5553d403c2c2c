"""Downloads from a real server on this machine: complete, interrupted, altered, missing, redirected, slow."""

import hashlib
import os
import time

import pytest

from hyperinit.errors import DownloadError
from hyperinit.hub import http
from hyperinit.hub.download import Wanted, fetch


@pytest.fixture
def want(server):
    """Describe the server's file, at two addresses; `known` replaces fields."""

    def want(**known):
        urls = (f"{server.url}/first", f"{server.url}/mirror")
        return Wanted(**{"urls": urls, "digest": hashlib.sha256(server.body).hexdigest(), **known})

    return want


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "a.bin"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def places(server):
    return [place for place, *_ in server.seen]


def test_a_whole_file_gets_its_name_and_nothing_else_is_left(server, want, target):
    fetch(want(size=len(server.body)), target)
    assert target.read_bytes() == server.body
    assert names(target) == ["a.bin"]
    assert server.seen == [("/first", None, None)]
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_headers_are_sent(server, want, target):
    fetch(want(headers={"X-Mine": "yes"}), target)
    assert server.headers[0]["X-Mine"] == "yes"


def test_an_interrupted_download_is_resumed(server, want, target):
    server.plan = ["cut"] * 5  # more than there are pauses: what arrives counts
    fetch(want(), target)
    assert target.read_bytes() == server.body
    ranges = [None, "bytes=150000-", "bytes=225000-"]
    assert server.seen[:3] == [("/first", part, part and '"one"') for part in ranges]
    assert places(server) == ["/first"] * 6
    assert names(target) == ["a.bin"]


def test_the_next_call_resumes_an_interrupted_download(server, want, target):
    server.plan = ["cut", *["404"] * 2]
    with pytest.raises(DownloadError, match=r"HTTP status 404"):
        fetch(want(), target)
    assert names(target) == ["a.bin.part", "a.bin.part.tag"]
    server.seen.clear()
    fetch(want(), target)
    assert server.seen == [("/first", "bytes=150000-", '"one"')]
    assert target.read_bytes() == server.body
    assert names(target) == ["a.bin"]


@pytest.mark.parametrize("etag", ['"two"', '"one"'], ids=["noticed by the tag", "noticed by the digest"])
def test_a_file_that_changed_in_between_is_downloaded_from_the_start(server, want, target, etag):
    server.plan = ["cut", *["404"] * 2]
    with pytest.raises(DownloadError):
        fetch(want(), target)
    (target.parent / "a.bin.part").write_bytes(bytes(150_000))  # as if its server had had other bytes
    server.etag = etag
    server.seen.clear()
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert set(places(server)) == {"/first"}
    assert names(target) == ["a.bin"]


def test_without_a_digest_nothing_is_resumed(server, want, target):
    server.plan = ["cut", *["404"] * 2]
    with pytest.raises(DownloadError):
        fetch(want(digest=""), target)
    assert names(target) == []
    target.with_name("a.bin.part").write_bytes(bytes(150_000))
    target.with_name("a.bin.part.tag").write_text('"one"')
    fetch(want(digest=""), target)
    assert target.read_bytes() == server.body


@pytest.mark.parametrize("answer", ["whole", "shifted"])
def test_ranges_that_are_ignored_or_wrong_restart_the_file(server, want, target, answer):
    server.plan = ["cut", answer]
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert places(server) == ["/first"] * (2 if answer == "whole" else 3)
    assert names(target) == ["a.bin"]


def test_without_a_validator_no_range_is_asked_for(server, want, target):
    server.plan = ["untagged"]
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert server.seen == [("/first", None, None)] * 2


def test_a_server_that_always_interrupts_is_given_up(server, want, target):
    server.plan = ["untagged"] * 100
    with pytest.raises(DownloadError, match=r"/first: ProtocolError: .*IncompleteRead.*/mirror: "):
        fetch(want(), target)
    assert len(server.seen) == 6  # first bytes do not count as progress twice
    assert names(target) == []


def test_wrong_bytes_leave_nothing_behind_and_the_mirror_is_asked(server, want, target):
    server.plan = ["wrong"]
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert places(server) == ["/first", "/mirror"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("wrong", r"/first has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}; the download was deleted; .*/mirror has"),
        ("short", r"/first has 150,000 bytes, expected 300,000; "),
        ("longer", r"/first has 300,001 bytes, expected 300,000; "),
        ("endless", r"/first sends more than 300,000 bytes; the download was deleted; "),
        ("204", r"/first: HTTP status 204; "),
        ("403", r"/first: HTTP status 403; "),
        ("404", r"/first: HTTP status 404; "),
        ("500", r"/first: HTTP status 500; "),
        ("429", r"/first: HTTP status 429; "),
        ("416", r"/first: HTTP status 416 for bytes from 0; "),
        ("to ftp://example.org/a", r"/first: InvalidSchema: it redirects to ftp://example.org/a, no http address"),
        ("to http://127.0.0.1:9/a", r"/first: ConnectionError: "),
        ("to /round", r"/first: TooManyRedirects: "),
    ],
)
def test_what_stays_wrong_is_an_error_and_leaves_nothing_behind(server, want, target, monkeypatch, answer, message):
    monkeypatch.setattr(http, "HOPS", 3)
    server.plan = [answer] * 200
    with pytest.raises(DownloadError, match=rf"^a.bin could not be downloaded: http.*{message}.*Try again later"):
        fetch(want(size=len(server.body)), target)
    assert names(target) == []


def test_the_error_names_address_target_switch_and_the_way_by_hand(server, want, target):
    server.plan = ["500"] * 3 + ["403"]
    message = (
        rf"^a.bin could not be downloaded: {server.url}/first: HTTP status 500; {server.url}/mirror: HTTP status 403. "
        rf"Try again later, or by hand: put {server.url}/first or {server.url}/mirror at {target}. "
        r"HYPERINIT_OFFLINE=1 turns downloads off$"
    )
    with pytest.raises(DownloadError, match=message):
        fetch(want(), target)


def test_a_file_without_an_announced_length_that_ends_early_is_resumed(server, want, target):
    server.plan = ["ends"]
    fetch(want(size=len(server.body)), target)
    assert target.read_bytes() == server.body
    assert server.seen == [("/first", None, None), ("/first", "bytes=150000-", '"one"')]


@pytest.mark.parametrize("answer", ["", "endless"])
def test_a_bound_holds_where_the_size_is_unknown(server, want, target, answer):
    server.plan = [answer] * 2
    with pytest.raises(DownloadError, match=r"/first (has 300,000 bytes, more than|sends more than) 299,999"):
        fetch(want(most=299_999), target)
    assert names(target) == []
    fetch(want(most=300_000), target)


def test_a_stalled_download_times_out_and_is_resumed(server, want, target, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.2)
    server.plan, server.stall = ["cut"], 20
    start = time.monotonic()
    fetch(want(), target)
    assert time.monotonic() - start < 4
    assert target.read_bytes() == server.body
    [_, (_, begin, tag)] = server.seen
    assert begin.startswith("bytes=1")
    assert tag == '"one"'


def test_redirects_are_followed(server, want, target):
    server.plan = ["to /there"]
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert places(server) == ["/first", "/there"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "nothing", "http://", "http://[", "ftp://a/b", "http://a b/"])
def test_addresses_without_a_server_are_errors(target, monkeypatch, url):
    monkeypatch.setattr(http, "WAITS", ())
    with pytest.raises(DownloadError, match=r"a.bin could not be downloaded: .*(Error|Invalid|Missing)"):
        fetch(Wanted(urls=(url,)), target)


def test_a_proxy_is_asked(server, want, target, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    fetch(want(urls=("http://nowhere.invalid/file",)), target)
    assert target.read_bytes() == server.body
    assert places(server) == ["http://nowhere.invalid/file"]


def test_private_certificates_are_read(want, target, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(DownloadError, match=r"invalid path: /nowhere/ca.pem"):
        fetch(want(urls=("https://127.0.0.1:9/file",)), target)


def test_a_folder_that_cannot_be_written_is_an_error(server, want, tmp_path):
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(DownloadError, match=r"(FileExists|NotADirectory)Error: .*by hand"):
        fetch(want(), tmp_path / "deep" / "a.bin")


@pytest.mark.parametrize(("word", "argument"), [("1", None), ("1", False), ("", True)])
def test_offline_no_socket_is_opened(server, want, target, monkeypatch, word, argument):
    monkeypatch.setenv("HYPERINIT_OFFLINE", word)
    said = "unset HYPERINIT_OFFLINE to download it" if word else "remove offline=True to download it"
    with pytest.raises(DownloadError, match=rf"a.bin is missing; {said}, or by hand: put {server.url}/first or .*"):
        fetch(want(), target, offline=argument)
    assert not server.seen
    assert not os.path.exists(target.parent)


@pytest.mark.parametrize(("terminal", "word", "shown"), [(True, "", True), (True, "0", False), (False, "", False)])
def test_the_bar_is_for_terminals(server, want, target, monkeypatch, capsys, terminal, word, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("HYPERINIT_PROGRESS", word)
    fetch(want(name="file"), target)
    assert ("file" in capsys.readouterr().err) is shown
