"""Hostile servers: whatever they send, a download ends soon, takes little memory, leaves no file and says why."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

import figures
import pytest
from hostile_server import REPLIES, HostileServer

from hyperinit.hub import wire
from hyperinit.hub.wire import Reader, Watch

RUN = Path(__file__).parents[2] / "support" / "hostile_run.py"
SECONDS = 2  # HYPERINIT_TIMEOUT
MEMORY = 32 << 20  # bytes above the size that a file states
STATED = {name for name in REPLIES if name.startswith("an index")}  # of up to 4 MiB
QUICK = [
    "redirect with a gzip bomb",
    "redirect to a broken address",
    "a chunk of negative size",
    "an endless chunk size",
    "endless headers",
    "long headers",
    "a length of 5,000 digits",
    "a byte now and then in the headers",
]


def ask(server, asked, tmp_path):
    """Let a process of its own ask for each [way, reply] and return the outcomes."""
    with HostileServer() as hostile:
        words = [server.url + "/honest", *([way, hostile.url(name)] for way, name in asked)]
        environment = {**os.environ, "HYPERINIT_HOME": str(tmp_path / "home"), "HYPERINIT_TIMEOUT": str(SECONDS)}
        command = [sys.executable, str(RUN), json.dumps(words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return list(zip(asked, json.loads(done.stdout), strict=True))


def wrong(asked, found):
    """What is wrong with the outcome of one reply."""
    way, name = asked
    stated = 4 << 20 if name in STATED else 0
    return [
        *([f"{way}, {name}: {found['kind']} {found['text'][:200]}"] if not found["kind"].endswith("Error") else []),
        *([f"{way}, {name}: {found['kind']} is foreign"] if found["kind"].startswith("foreign") else []),
        *([f"{way}, {name}: took {found['seconds']:.1f} s"] if found["seconds"] > 2 * SECONDS + 2 else []),
        *([f"{way}, {name}: took {found['bytes'] >> 20} MiB"] if found["bytes"] > MEMORY + stated else []),
        *([f"{way}, {name}: left {found['left']}"] if found["left"] else []),
    ]


def test_hostile_replies_end_in_an_error_and_take_little_memory(server, tmp_path):
    outcomes = ask(server, [("web", name) for name in QUICK], tmp_path)
    assert [line for each in outcomes for line in wrong(*each)] == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["web", "hf", "registry"])
def test_every_hostile_reply_ends_in_an_error(server, tmp_path, way):
    outcomes = ask(server, [(way, name) for name in REPLIES], tmp_path)
    failures = [line for each in outcomes for line in wrong(*each)]
    figures.record("servers", way, replies=len(REPLIES), failures=len(failures))
    assert failures == []


def reader(raw):
    return Reader(io.BytesIO(raw))


def test_lines_are_limited_between_pieces_of_the_body():
    found = reader(b"a\n" * wire.MOST_HEADERS)
    for _ in range(wire.MOST_HEADERS // 2):
        found.readline()
    with pytest.raises(HTTPException, match=r"the server sends more than 262,144 bytes of headers"):
        found.readline()
    found = reader(b"a\nb" * wire.MOST_HEADERS)
    for _ in range(wire.MOST_HEADERS):  # many small chunks are no error
        assert found.readline() == b"a\n"
        assert found.read(1) == b"b"


@pytest.mark.parametrize("size", [-1, -5, None, wire.MOST_READ + 1])
def test_a_piece_of_no_or_too_large_a_size_is_refused(size):
    with pytest.raises(HTTPException, match=r"a chunk with a size that is not allowed"):
        reader(b"abc").read(size)


def test_a_watch_ends_a_wait_for_bytes_that_do_not_come():
    ours, theirs = socket.socketpair()
    watch = Watch(0.1)
    watch.add(ours)
    start = time.monotonic()
    with ours, theirs:
        assert ours.recv(1) == b""
    assert time.monotonic() - start < 5
    assert watch.fired
    watch.close()


def test_a_closed_watch_ends_nothing():
    ours, theirs = socket.socketpair()
    before = threading.active_count()
    watch = Watch(0.05)
    watch.add(ours)
    watch.close()
    time.sleep(0.1)
    with ours, theirs:
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
    assert not watch.fired
    assert threading.active_count() <= before
