"""A server on this machine that sends what no honest server sends, and the list of what it can send."""

import gzip
import itertools
import socket
import threading

PAUSE = 0.02  # seconds between the pieces of an endless reply, so that it fills no disk
DIGITS = b"9" * 5000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(1 << 26))  # 64 kB for 64 MiB


def endless(piece, pause=PAUSE):
    """Pieces and pauses (numbers) in turns."""
    return itertools.cycle([piece, pause])


def redirect(location, rest=b"Content-Length: 0\r\n\r\n"):
    return [b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n" + rest]


def with_length(length):
    return [OK + b"Content-Length: " + length + b"\r\n\r\n", *[bytes(1 << 16)] * 4]


# What the server sends for each path: bytes, and seconds of pauses between them.
REPLIES = {
    "redirect with a gzip bomb": lambda: [*redirect(b"/x", b"Content-Encoding: gzip\r\n\r\n"), *[BOMB] * 32],
    "redirect with an endless body": lambda: itertools.chain(redirect(b"/x", b"\r\n"), endless(bytes(1 << 16))),
    "redirect to itself": lambda: redirect(b"?"),
    "redirect to a broken address": lambda: redirect(b"http://[::1/"),
    "redirect to a broken port": lambda: redirect(b"http://127.0.0.1:" + DIGITS),
    "redirect to a broken host": lambda: redirect(b"http://" + b"a" * 300 + b".invalid/"),
    "redirect to bytes that are no text": lambda: redirect(b"http://\xff\xfe\x00/\xff"),
    "redirect to nowhere": lambda: redirect(b""),
    "redirect to another scheme": lambda: redirect(b"file:///etc/passwd"),
    "gzip bomb": lambda: [OK + b"Content-Encoding: gzip\r\n\r\n", BOMB, BOMB],
    "endless body": lambda: itertools.chain([OK + b"\r\n"], endless(bytes(1 << 16))),
    "endless chunks": lambda: itertools.chain([CHUNKED], endless(b"10000\r\n" + bytes(1 << 16) + b"\r\n")),
    "a chunk of negative size": lambda: itertools.chain([CHUNKED, b"-1\r\n"], endless(bytes(1 << 20), 0.001)),
    "a chunk size of 5,000 digits": lambda: itertools.chain([CHUNKED, b"f" * 5000 + b"\r\n"], endless(bytes(1 << 16))),
    "an endless chunk size": lambda: itertools.chain([CHUNKED], endless(b"1" * (1 << 20), 0.001)),
    "an endless chunk extension": lambda: itertools.chain([CHUNKED, b"5;"], endless(b"1" * (1 << 20), 0.001)),
    "endless trailers": lambda: itertools.chain([CHUNKED, b"0\r\n"], endless(b"A: b\r\n" * 10_000, 0.001)),
    "an endless trailer": lambda: itertools.chain([CHUNKED, b"0\r\nA: "], endless(b"a" * (1 << 20), 0.001)),
    "an endless status": lambda: endless(b"H" * (1 << 20), 0.001),
    "an endless header": lambda: itertools.chain([OK, b"A: "], endless(b"a" * (1 << 20), 0.001)),
    "endless headers": lambda: itertools.chain([OK], endless(b"A: " + b"a" * 60_000 + b"\r\n", 0.001)),
    "long headers": lambda: [OK, *[b"A: " + "\U0001f600".encode() * 16_000 + b"\r\n"] * 99, b"\r\n"],
    "endless interim replies": lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.001),
    "a length of 5,000 digits": lambda: with_length(DIGITS),
    "a negative length": lambda: with_length(b"-5"),
    "two lengths": lambda: with_length(b"5, 6"),
    "a length of the wrong digits": lambda: with_length(b"\xb2"),
    "a retry after 5,000 digits": lambda: [
        b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nRetry-After: " + DIGITS + b"\r\n\r\n"
    ],
    "a range of 5,000 digits": lambda: [
        b"HTTP/1.1 206 X\r\nContent-Length: 5\r\nContent-Range: bytes 0-" + DIGITS + b"/" + DIGITS + b"\r\n\r\nhello"
    ],
    "a status of 5,000 digits": lambda: [b"HTTP/1.1 " + DIGITS + b" OK\r\n\r\n"],
    "headers of 5,000 digits": lambda: [
        OK + b"X-Linked-Size: " + DIGITS + b"\r\nX-Linked-Etag: " + DIGITS + b"\r\nContent-Length: 5\r\n\r\nhello"
    ],
    "no HTTP": lambda: [b"\x00\xff" * 1000],
    "nothing": lambda: [],
    "a byte now and then in the status": lambda: endless(b"H", 0.05),
    "a byte now and then in the headers": lambda: itertools.chain([OK, b"A: "], endless(b"a", 0.05)),
    "a byte now and then in the body": lambda: itertools.chain([OK + b"\r\n"], endless(b"a", 0.05)),
    "a byte now and then in a chunk": lambda: itertools.chain([CHUNKED, b"ffff\r\n"], endless(b"a", 0.05)),
    "an index of many values": lambda: [OK + b"\r\n", b'{"a": [' + b"[]," * 1_390_000 + b"[]]}"],
    "an index of wide text": lambda: [OK + b"\r\n", b'{"a": "' + "\U0001f600".encode() + b"a" * 4_190_000 + b'"}'],
    "an index of escaped text": lambda: [OK + b"\r\n", b'{"a": "\\ud83d\\ude00' + b"a" * 4_190_000 + b'"}'],
    "an index of escapes": lambda: [OK + b"\r\n", b'{"a": "' + b"\\ud83d\\ude00" * 349_000 + b'"}'],
    "an index that is deep": lambda: [OK + b"\r\n", b"[" * 4_000_000],
    "an index of a number of 5,000 digits": lambda: [OK + b"\r\n", b'{"a": ' + DIGITS + b"}"],
}


class HostileServer:
    """Sends the reply that a path's number names to each connection, until the client hangs up; a context manager."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._stopped = threading.Event()
        self._names = list(REPLIES)

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._socket.close()

    def url(self, name):
        """Address at which the server sends this reply, whatever follows it."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{self._names.index(name)}"

    def _serve(self):
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        try:
            with connection:
                asked = connection.recv(1 << 16).split()
                for piece in REPLIES[self._names[int(asked[1].split(b"/")[1].split(b"?")[0])]]():
                    if self._stopped.is_set():
                        return
                    if isinstance(piece, float):
                        self._stopped.wait(piece)
                    else:
                        connection.sendall(piece)
        except (OSError, ValueError, IndexError):
            pass  # the client has hung up, or was sent elsewhere
