"""Fetching from a real server on this machine: whole, cut off, altered, missing, moved, forbidden."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hyperinit.errors import DataError, UnknownNameError
from hyperinit_training import cli, download
from hyperinit_training.download import FILES, Remote, fetch

BODY = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


class Server(ThreadingHTTPServer):
    """Serves BODY under every path; `plan` has one word for each request to come, "" for an ordinary answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen, self.etag = [], [], '"one"'
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of some tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        word = self.server.plan.pop(0) if self.server.plan else ""
        self.server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        if word.isdigit():
            return self.answer(int(word), b"sorry", {})
        body = BODY[::-1] if word == "wrong" else BODY
        start = 0
        same = self.headers.get("If-Range") == self.server.etag
        if "Range" in self.headers and word != "no ranges" and same:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        tag = {"ETag": self.server.etag}
        if start:
            tag["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        cut = len(body) if word != "cut" else start + (len(body) - start) // 2
        return self.answer(206 if start else 200, body[start:], tag, body[start:cut])

    def answer(self, status, body, headers, sent=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body if sent is None else sent)
        if sent is not None and len(sent) < len(body):
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    """A server, two of whose addresses are those of the only file of "svhn"; waits take no time."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HYPERINIT_OFFLINE", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        remote = Remote("a.mat", hashlib.md5(BODY).hexdigest(), (f"{server.url}/first", f"{server.url}/mirror"))
        monkeypatch.setitem(FILES, "svhn", (remote,))
        monkeypatch.setattr(download, "WAITS", (0.0, 0.0))
        yield server
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_whole_file_gets_its_name_and_nothing_else_is_left(server, tmp_path):
    [path] = fetch("svhn", tmp_path / "data")
    assert path == tmp_path / "data" / "svhn" / "a.mat"
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["a.mat"]
    assert server.seen == [("/first", None, None)]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.mat").write_bytes(BODY)
    assert fetch("svhn", tmp_path) == [tmp_path / "a.mat"]
    assert not server.seen


def test_a_file_that_is_there_with_other_bytes_is_kept_and_refused(server, tmp_path):
    (tmp_path / "a.mat").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a.mat must have the published MD5 [0-9a-f]{32}, got [0-9a-f]{32}; move it"):
        fetch("svhn", tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == b"mine"
    assert not server.seen


def test_a_cut_connection_goes_on_where_it_was(server, tmp_path):
    server.plan = ["cut", "cut", "cut", "cut", "cut"]  # more than there are pauses: what arrives counts
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    ranges = [None, "bytes=150000-", "bytes=225000-"]
    assert server.seen[:3] == [("/first", part, part and '"one"') for part in ranges]
    assert [place for place, *_ in server.seen] == ["/first"] * 6
    assert names(tmp_path) == ["a.mat"]


def test_the_next_command_goes_on_where_a_broken_one_was(server, tmp_path):
    server.plan = ["cut", *["404"] * 2]
    with pytest.raises(DataError, match=r"HTTP status 404"):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == ["a.mat.part", "a.mat.part.tag"]
    server.seen.clear()
    [path] = fetch("svhn", tmp_path)
    assert server.seen == [("/first", "bytes=150000-", '"one"')]
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["a.mat"]


def test_a_file_that_changed_meanwhile_starts_anew(server, tmp_path):
    server.plan = ["cut", *["404"] * 2]
    with pytest.raises(DataError):
        fetch("svhn", tmp_path)
    left = tmp_path / "svhn" / "a.mat.part"
    left.write_bytes(bytes(len(left.read_bytes())))  # as if its server had had other bytes
    server.etag = '"two"'
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY


def test_a_server_that_ignores_ranges_restarts_the_file(server, tmp_path):
    server.plan = ["cut", "no ranges"]
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    assert len(server.seen) == 2


def test_without_a_validator_no_range_is_asked_for(server, tmp_path, monkeypatch):
    real = Handler.answer

    def cut(self, status, body, headers, sent=None):
        first = len(self.server.seen) == 1
        real(self, status, body, {}, sent[: len(sent) // 2] if first else sent)

    monkeypatch.setattr(Handler, "answer", cut)
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    assert server.seen == [("/first", None, None)] * 2


def test_wrong_bytes_leave_nothing_behind_and_the_mirror_is_asked(server, tmp_path):
    server.plan = ["wrong"]
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    assert [place for place, *_ in server.seen] == ["/first", "/mirror"]


def test_wrong_bytes_everywhere_are_an_error_and_leave_nothing_behind(server, tmp_path):
    server.plan = ["wrong"] * 2
    message = r"a.mat could not be fetched: .*/first has MD5 .*, expected .*, and nothing of it was kept; .*/mirror has"
    with pytest.raises(DataError, match=message):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == []


def test_a_missing_file_is_taken_from_the_mirror_at_once(server, tmp_path):
    server.plan = ["404"]
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    assert [place for place, *_ in server.seen] == ["/first", "/mirror"]


@pytest.mark.parametrize("status", ["500", "503", "429", "416"])
def test_a_passing_failure_is_tried_again(server, tmp_path, status):
    server.plan = [status, status]
    [path] = fetch("svhn", tmp_path)
    assert path.read_bytes() == BODY
    assert [place for place, *_ in server.seen] == ["/first"] * 3


def test_failures_that_do_not_pass_are_named_with_the_way_by_hand(server, tmp_path):
    server.plan = ["500"] * 3 + ["403"]
    message = (
        r"/first: HTTP status 500; .*/mirror: HTTP status 403. Try again later, or by hand: put http.* at .*a.mat$"
    )
    with pytest.raises(DataError, match=message):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_is_not_there_is_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setitem(FILES, "svhn", (Remote("a.mat", "0", ("http://127.0.0.1:9/a.mat",)),))
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/a.mat: ConnectionError: "):
        fetch("svhn", tmp_path)


def test_offline_no_socket_is_opened(server, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setenv("HYPERINIT_OFFLINE", "1")
    message = r"svhn/a.mat is missing and HYPERINIT_OFFLINE forbids to fetch it; unset it, or by hand: put http.* at "
    with pytest.raises(DataError, match=message):
        fetch("svhn", tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "a.mat").write_bytes(BODY)
    assert fetch("svhn", tmp_path) == [tmp_path / "a.mat"]


@pytest.mark.parametrize(("terminal", "word", "shown"), [(True, "", True), (True, "0", False), (False, "", False)])
def test_the_bar_is_for_terminals(server, tmp_path, monkeypatch, capsys, terminal, word, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("HYPERINIT_PROGRESS", word)
    fetch("svhn", tmp_path)
    assert ("a.mat" in capsys.readouterr().err) is shown


def test_the_command_prints_where_the_files_are(server, tmp_path, capsys):
    assert cli.data(["svhn", "--data", str(tmp_path)]) == 0
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
