"""Requests: which failures are retried and when, which redirects are followed, and that passwords are hidden."""

from email.utils import formatdate
from time import time

import pytest
import requests

from hyperinit.hub import http


@pytest.fixture
def get(server):
    """Ask the server until it gives the file; return the problem, or None."""

    def once():
        with http.ask("GET", f"{server.url}/file", {}, safe=True) as reply:
            return None if reply.status_code == 200 else http.refusal(server.url, reply)

    return lambda: http.insist(server.url, once)


def status(url, safe=True):
    with http.ask("GET", url, {}, safe=safe) as reply:
        return reply.status_code


@pytest.mark.parametrize("status", ["500", "503", "429", "408"])
def test_a_temporary_failure_is_retried(server, get, status):
    server.plan = [status, status]
    assert get() is None
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        ("429 7", 7),
        ("503 7", 7),
        ("429 99999", 60),
        (f"503 {formatdate(time() + 3600, usegmt=True)}", 60),
        ("429 soon", 0.5),
        ("429 0", 0.5),
    ],
)
def test_retry_after_is_honoured_within_bounds(server, get, monkeypatch, answer, pause):
    pauses = []
    monkeypatch.setattr(http, "WAITS", (0.5,))
    monkeypatch.setattr(http.time, "sleep", pauses.append)
    server.plan = [answer]
    assert get() is None
    assert pauses == [pause]


@pytest.mark.parametrize(
    ("start", "to", "safe", "refused"),
    [
        ("https://a.org/x", "http://a.org/x", False, True),
        ("https://a.org/x", "http://a.org/x", True, False),
        ("https://a.org/x", "/y", False, False),
        ("https://a.org/x", "https://b.org/x", False, False),
        ("http://a.org/x", "http://b.org/x", False, False),
    ],
)
def test_plain_http_behind_https_needs_a_digest(monkeypatch, start, to, safe, refused):
    """The redirect is refused before anything is sent to where it leads."""
    sent = []

    def send(self, request, **_):
        sent.append(request.url)
        reply = requests.Response()
        reply.url, reply.request, reply.raw = request.url, request, None
        reply.status_code, reply._content = (302 if request.url == start else 200), b""
        reply.headers["Location"], reply._content_consumed = to, True
        return reply

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setattr(requests.sessions, "extract_cookies_to_jar", lambda *_: None)
    if refused:
        with pytest.raises(requests.exceptions.InvalidURL, match=r"it redirects to http://a.org/x, which is not https"):
            status(start, safe)
    else:
        assert status(start, safe) == 200
    assert len(sent) == 2 - refused


def test_a_lasting_failure_is_not_retried(server, get):
    server.plan = ["404"]
    assert get() == http.Problem(f"{server.url}: HTTP status 404")
    server.plan = ["500"] * 3
    assert get() == http.Problem(f"{server.url}: HTTP status 500", passing=True)
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (requests.ConnectionError("gone"), True),
        (requests.exceptions.SSLError("EOF"), True),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), False),
        (requests.TooManyRedirects("30"), False),
        (requests.exceptions.InvalidSchema("ftp"), False),
    ],
)
def test_lasting_errors_are_not_retried(monkeypatch, error, passing):
    monkeypatch.setattr(http, "WAITS", (0.0, 0.0))
    calls = []

    def once():
        calls.append(1)
        raise error

    problem = http.insist("http://a.org", once)
    assert problem.text == f"http://a.org: {type(error).__name__}: {error}"
    assert len(calls) == (3 if passing else 1)


def test_only_bytes_beyond_the_furthest_reset_the_retries(monkeypatch):
    monkeypatch.setattr(http, "WAITS", (0.0, 0.0))
    sizes = [0, 100, 200, 50, 60, 70, 80]  # after so many attempts; from 50 on the server begins again and again
    calls = []

    def once():
        calls.append(1)
        return http.Problem("cut", passing=True)

    assert http.insist("http://a.org", once, lambda: sizes[len(calls)]).text == "cut"
    assert len(calls) == 4


def test_passwords_are_not_shown(monkeypatch):
    monkeypatch.setattr(http, "WAITS", ())
    url = "http://me:secret@127.0.0.1:9/a"
    problem = http.insist(url, lambda: status(url))
    assert "http://127.0.0.1:9/a" in problem.text
    assert "secret" not in problem.text
