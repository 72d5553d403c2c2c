"""Downloads on full disks, after kills, with damaged leftovers, broken addresses, and at the end of their time."""

import errno
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperinit.errors import ArgumentError, DownloadError
from hyperinit.files import temporary
from hyperinit.hub import download, http
from hyperinit.hub.download import Wanted, fetch, switch

KILLED = """
import os, signal, sys
from pathlib import Path
from hyperinit.hub import download
download.digest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
download.fetch(download.Wanted(urls=(sys.argv[1],), digest="0" * 64), Path(sys.argv[2]))
"""


@pytest.fixture
def want(server):
    def want(*urls, **known):
        digest = hashlib.sha256(server.body).hexdigest()
        return Wanted(**{"urls": urls or (f"{server.url}/first",), "digest": digest, **known})

    return want


@pytest.fixture
def target(tmp_path):
    (tmp_path / "deep").mkdir()
    return tmp_path / "deep" / "a.bin"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_and_asks_no_mirror(server, want, target, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, raw):
            if self.file.tell() > 100_000:
                full()
            return self.file.write(raw)

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **words: Full(real(path, mode, **words)))
    with pytest.raises(
        DownloadError, match=r"a.bin could not be downloaded: .* cannot be written, got: No space left.*"
    ):
        fetch(want(f"{server.url}/first", f"{server.url}/mirror"), target)
    assert names(target) == []
    assert len(server.seen) == 1


def test_a_disk_that_is_full_at_the_end_leaves_nothing(want, target, monkeypatch):
    monkeypatch.setattr(download, "settle", full)
    with pytest.raises(DownloadError, match=r"No space left on device"):
        fetch(want(), target)
    assert [name for name in names(target) if not name.startswith("a.bin.part")] == []
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", full)  # the note of the validator
    monkeypatch.setattr(download, "settle", full)
    with pytest.raises(DownloadError, match=r"No space left on device"):
        fetch(want(), target)
    assert names(target) == []


def damage(note, kind):
    note.unlink()
    if kind == "folder":
        note.mkdir()
    else:
        note.write_bytes({"bytes": b"\xff\xfe", "lines": b'"one"\r\nX: y', "long": b"x" * 5000, "empty": b""}[kind])


@pytest.mark.parametrize("kind", ["bytes", "lines", "long", "empty", "folder"])
def test_a_damaged_note_of_a_partial_download_blocks_nothing(server, want, target, kind):
    server.plan = ["cut", "404"]
    with pytest.raises(DownloadError):
        fetch(want(), target)
    assert names(target) == ["a.bin.part", "a.bin.part.tag"]
    damage(target.with_name("a.bin.part.tag"), kind)
    fetch(want(), target)
    assert target.read_bytes() == server.body
    assert names(target) == ["a.bin"]


@pytest.mark.parametrize("raw", [b"", bytes(300_000), bytes(300_001), None], ids=["empty", "all", "longer", "folder"])
def test_a_damaged_partial_download_blocks_nothing(server, want, target, raw):
    left = target.with_name("a.bin.part")
    left.write_bytes(raw) if raw is not None else left.mkdir()
    target.with_name("a.bin.part.tag").write_text('"one"')
    fetch(want(size=len(server.body)), target)
    assert target.read_bytes() == server.body
    assert names(target) == ["a.bin"]


@pytest.mark.parametrize("status", ["400", "412", "416", "501"])
def test_a_server_that_refuses_ranges_is_asked_for_the_whole_file(server, want, target, status):
    server.plan = ["cut", status]
    fetch(want(), target)
    assert [begin for _, begin, _ in server.seen] == [None, "bytes=150000-", None]
    assert target.read_bytes() == server.body


def test_the_partial_file_of_a_killed_process_is_deleted_by_the_next_download(server, want, target, monkeypatch):
    monkeypatch.setattr(temporary, "_swept", {})
    command = [sys.executable, "-c", KILLED, f"{server.url}/first", str(target)]
    assert subprocess.run(command, check=False).returncode < 0
    assert re.fullmatch(r"a\.bin\..*\.part", " ".join(names(target)))
    fetch(want(), target)
    assert names(target) == ["a.bin"]


def test_a_slow_server_is_given_up_at_the_end_of_the_time(server, want, target, monkeypatch):
    monkeypatch.setenv("HYPERINIT_TIMEOUT", "0.5")
    server.slow = 0.2  # two seconds for the whole file, and never 30 without a byte
    start = time.monotonic()
    message = r"/first: not complete after 0.5 seconds, the limit that HYPERINIT_TIMEOUT sets\. Try again later"
    with pytest.raises(DownloadError, match=message):
        fetch(want(f"{server.url}/first", f"{server.url}/mirror"), target)
    assert time.monotonic() - start < 2
    assert len(server.seen) == 1


def test_the_next_call_goes_on_where_the_time_ended(server, want, target, monkeypatch):
    monkeypatch.setenv("HYPERINIT_TIMEOUT", "0.9")
    server.slow = 0.2
    for _ in range(9):
        try:
            fetch(want(), target)
            break
        except DownloadError:
            assert names(target) == ["a.bin.part", "a.bin.part.tag"]
    assert target.read_bytes() == server.body
    assert server.seen[-1][1] is not None


def test_pauses_between_attempts_end_with_the_time(server, want, target, monkeypatch):
    monkeypatch.setenv("HYPERINIT_TIMEOUT", "0.3")
    monkeypatch.setattr(http, "WAITS", (60.0,))
    server.plan = ["503 60"] * 5
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"not complete after 0.3 seconds"):
        fetch(want(), target)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "9" * 5000])
def test_a_time_that_is_none_is_refused(want, target, monkeypatch, text):
    monkeypatch.setenv("HYPERINIT_TIMEOUT", text)
    with pytest.raises(ArgumentError, match=r"HYPERINIT_TIMEOUT must be a number of seconds above 0"):
        fetch(want(), target)


@pytest.mark.parametrize(("text", "forbidden"), [("false", False), ("no", False), ("0", False), ("true", True)])
def test_offline_takes_a_yes_or_a_no(monkeypatch, text, forbidden):
    monkeypatch.setenv("HYPERINIT_OFFLINE", text)
    assert bool(switch()) is forbidden


def test_another_word_for_offline_is_refused(server, want, target, monkeypatch):
    monkeypatch.setenv("HYPERINIT_OFFLINE", "maybe")
    with pytest.raises(ArgumentError, match=r"HYPERINIT_OFFLINE must be one of 1, true, .*got 'maybe'"):
        fetch(want(), target)
    assert not server.seen


@pytest.mark.parametrize(
    "url", ["http://[::1/", "http://a:b/", "http://[", "http:///x", "", "http://\udc80/", f"http://{'a' * 300}.x/"]
)
def test_a_broken_mirror_is_passed_over(server, want, target, url):
    fetch(want(url, f"{server.url}/mirror"), target)
    assert target.read_bytes() == server.body
    os.unlink(target)
    with pytest.raises(DownloadError, match=r"could not be downloaded: "):
        fetch(want(url), target)


@pytest.mark.parametrize("to", ["http://[::1/", "http://a:b/", "\xff", "http://\xff\xfe/", "//", "javascript:x"])
def test_a_redirect_to_a_broken_address_is_an_error_of_ours(server, want, target, to):
    server.plan = [f"to {to}"] * 50
    with pytest.raises(DownloadError, match=r"could not be downloaded: "):
        fetch(want(), target)


def test_only_the_first_mirrors_are_asked(server, want, target):
    server.plan = ["404"] * 100
    with pytest.raises(DownloadError, match=r"/15: HTTP status 404\. Try"):
        fetch(want(*(f"{server.url}/{number}" for number in range(100))), target)
    assert len(server.seen) == 16


def test_secrets_appear_in_no_message(server, want, target, monkeypatch):
    monkeypatch.setattr(http, "WAITS", ())
    host = server.url.removeprefix("http://")
    server.plan = ["403", f"to {server.url}/x?token=SECRET", "404", "to http://me:SECRET@[::1/", "endless", "500"]
    urls = [f"http://me:SECRET@{host}/{number}?key=SECRET" for number in range(5)]
    urls += ["http://me:SECRET@127.0.0.1:9/?key=SECRET", "http://me:SECRET@[/", "http://me:SEC/SECRET@host/"]
    urls += ["ftp://me:SECRET@host/?SECRET", "me:SECRET@host", "http://me:SECRET@nowhere.invalid/SECRET?SECRET#SECRET"]
    urls = [url.replace("/SECRET?", "/?") for url in urls]
    with pytest.raises(DownloadError) as caught:
        fetch(want(*urls, size=len(server.body), digest="0" * 64), target)
    assert "SECRET" not in str(caught.value)
    assert str(caught.value).count("HTTP status 403") == 1
    with pytest.raises(DownloadError) as caught:
        fetch(want(*urls), target, offline=True)
    assert "SECRET" not in str(caught.value)


def test_a_proxys_password_appears_in_no_message(want, target, monkeypatch):
    monkeypatch.setattr(http, "WAITS", ())
    for proxy in ("http://me:SECRET@127.0.0.1:9", "http://me:SECRET@[", "nothing://me:SECRET@host", "me:SECRET@"):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(DownloadError) as caught:
            fetch(want("http://nowhere.invalid/"), target)
        assert "SECRET" not in str(caught.value)
