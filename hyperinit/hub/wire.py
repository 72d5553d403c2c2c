"""Connections whose replies take little memory and end at a deadline, whatever the server sends.

A timeout of a socket starts again with every byte, and Python's HTTP reader trusts the sizes that a server states. So
the bytes of a reply are read through `Reader`, and a `Watch` shuts the sockets down at the deadline.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

MOST_HEADERS = 1 << 18  # bytes of lines between two pieces of the body: status, headers, chunk sizes, trailers
MOST_READ = 1 << 20  # bytes of one piece of the body


class Reader(io.BufferedReader):
    """The bytes of a reply. No call takes more memory than `MOST_HEADERS` or `MOST_READ`."""

    left = MOST_HEADERS

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line; an error ends headers, chunk sizes and trailers that do not end."""
        most = self.left + 1
        line = super().readline(most if size is None or size < 0 else min(size, most))
        self.left -= len(line)
        if self.left < 0:
            raise http.client.HTTPException(f"the server sends more than {MOST_HEADERS:,} bytes of headers")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece of the body; a negative size, which a server can state for a chunk, would read all of it."""
        if size is None or not 0 <= size <= MOST_READ:
            raise http.client.HTTPException("the server states a chunk with a size that is not allowed")
        self.left = MOST_HEADERS
        return super().read(size)


class Reply(http.client.HTTPResponse):
    """A reply that is read through `Reader`."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = Reader(self.fp.detach())


class Watch:
    """Shuts the sockets of a request down when its time is over, so that every call that waits for them ends.

    Args:
        seconds: until then.
    """

    def __init__(self, seconds: float) -> None:
        self.fired = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def add(self, sock: socket.socket) -> None:
        """Watch a connected socket, also after it was wrapped for TLS."""
        with self._lock:
            # Wrapping takes the descriptor away from the socket; a shutdown of a duplicate ends the connection, too.
            self._sockets.append(socket.fromfd(sock.fileno(), sock.family, sock.type, sock.proto))
        if self.fired:
            self._fire()

    def close(self) -> None:
        """End the watch; the sockets stay as they are."""
        self._timer.cancel()
        with self._lock:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def _fire(self) -> None:
        self.fired = True
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def session(watch: Watch) -> requests.Session:
    """Return a session of requests whose connections are watched and read through `Reader`.

    It follows no redirect by itself, since requests would read and unpack the whole body of each.
    """
    import requests
    from requests.adapters import HTTPAdapter

    def watched(pools: dict[str, Any]) -> dict[str, Any]:
        return {scheme: _watched(pool, watch) for scheme, pool in pools.items()}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = watched(self.poolmanager.pool_classes_by_scheme)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            new = proxy not in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **options)
            if new:
                manager.pool_classes_by_scheme = watched(manager.pool_classes_by_scheme)
            return manager

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            return None

    found = Session()
    for scheme in ("http://", "https://"):
        found.mount(scheme, Adapter())
    return found


def _watched(pool: Any, watch: Watch) -> Any:
    """Return a pool class of urllib3, of http, https or a proxy, whose connections are watched."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]  # the base is known only when requests is loaded
        response_class = Reply

        def _new_conn(self) -> socket.socket:
            sock: socket.socket = super()._new_conn()
            watch.add(sock)
            return sock

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
