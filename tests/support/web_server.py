"""A web server on this machine whose next answers a test scripts, for everything that downloads."""

import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serve `files` by path, and `body` for every other path.

    `plan` holds one word for each GET to come. "" gives an ordinary answer, a number that status, "to URL" a redirect.
    The other words make the answer wrong in one way, see `Handler.file`. `seen` lists path, Range and If-Range of each
    GET, `headers` the headers of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen, self.headers, self.etag = [], [], [], '"one"'
        self.body, self.files, self.heads = random.Random(0).randbytes(300_000), {}, {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.stopped, self.stall, self.slow = threading.Event(), 0, 0

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of some tests


class Handler(BaseHTTPRequestHandler):
    """Answer one connection to a `Server`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        status, headers = self.server.heads.get(self.path, (404, {}))
        self.server.headers.append(dict(self.headers))
        self.reply(status, b"", headers)

    def do_GET(self):
        word, _, value = (self.server.plan.pop(0) if self.server.plan else "").partition(" ")
        self.server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.server.headers.append(dict(self.headers))
        body = self.server.files.get(self.path, self.server.body)
        if word.isdigit():
            return self.reply(int(word), b"sorry", {"Retry-After": value} if value else {})
        if word == "to":
            return self.reply(302, b"", {"Location": value})
        return self.file(body[::-1] if word == "wrong" else body, word)

    def file(self, body, word):
        """Answer with a file, damaged or with false headers as the word says."""
        start = 0
        if "Range" in self.headers and word != "whole" and self.headers.get("If-Range") == self.server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        headers = {} if word == "untagged" else {"ETag": self.server.etag}
        if start:
            headers["Content-Range"] = f"bytes {start - (word == 'shifted')}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        half = rest[: len(rest) // 2]
        if word == "short":  # announced as whole
            rest = half
        elif word == "longer":
            rest += b"!"
        elif word == "endless":
            headers |= {"Content-Length": None, "Connection": "close"}
            rest *= 3
        elif word == "ends":  # without a length, the end of the connection is the end of the file
            headers |= {"Content-Length": None, "Connection": "close"}
            rest = half
        return self.reply(206 if start else 200, rest, headers, half if word in ("cut", "untagged") else rest)

    def reply(self, status, body, headers, sent=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.write(body if sent is None else sent)
        if sent is not None and len(sent) < len(body):
            self.server.stopped.wait(self.server.stall)
            self.close_connection = True

    def write(self, body):
        """Send a body, in small pieces with pauses between them if the server is slow."""
        step = 1 << 15 if self.server.slow else len(body)
        for start in range(0, len(body), step or 1):
            self.wfile.write(body[start : start + step])
            self.server.stopped.wait(self.server.slow)
