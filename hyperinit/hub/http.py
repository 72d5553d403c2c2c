"""Sends HTTP requests, and repeats those whose failure may be temporary, until a deadline.

Proxies (`HTTPS_PROXY`, `NO_PROXY`), private certificates (`REQUESTS_CA_BUNDLE`) and `.netrc` work as always with
requests. A failure of the server raises no error; a `Problem` describes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING

from hyperinit.errors import HyperinitError
from hyperinit.files import values
from hyperinit.hub import wire
from hyperinit.hub.address import joined, masked, shown

if TYPE_CHECKING:
    import requests


TIMEOUT = 30.0  # seconds without a reply, or without another byte
TOTAL = 3600.0  # seconds for one file with all its attempts; HYPERINIT_TIMEOUT replaces it
MOST_TOTAL = 1e7  # seconds, 115 days
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each retry of one address
LONGEST = 60.0  # seconds: limit of a server's Retry-After
LATER = (408, 425, 429)  # status codes besides 5xx that a retry may change
HOPS = 10  # redirects of one request


@dataclass(frozen=True)
class Problem:
    """Why an attempt failed, whether to retry, and after how many seconds the server asks for the retry."""

    text: str
    passing: bool = False
    wait: float = 0.0


@dataclass(frozen=True)
class Deadline:
    """The end of the time for one file: HYPERINIT_TIMEOUT seconds after the deadline was made."""

    seconds: float = field(default_factory=lambda: values.seconds("HYPERINIT_TIMEOUT", TOTAL, MOST_TOTAL))
    start: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds left, 0 if the time is over."""
        return max(0.0, self.start + self.seconds - time.monotonic())

    def __str__(self) -> str:
        """Say what happened, for a message."""
        return f"not complete after {self.seconds:g} seconds, the limit that HYPERINIT_TIMEOUT sets"


def insist(
    url: str,
    once: Callable[[], Problem | None],
    reached: Callable[[], int] = lambda: 0,
    deadline: Deadline | None = None,
) -> Problem | None:
    """Make an attempt, and retry after a pause while the problem may be temporary; return the last problem, or None.

    Args:
        url: for messages.
        once: one attempt. It returns its problem, or lets errors of requests pass.
        reached: bytes downloaded so far. More bytes than ever before reset the number of retries, so that a long
            download may be interrupted often.
        deadline: after it there is no further attempt.
    """
    deadline = deadline or Deadline()
    left, furthest = list(WAITS), reached()
    while True:
        problem = _attempt(url, once)
        if problem is None:
            return None
        if not deadline.left():
            return Problem(f"{shown(url)}: {deadline}")
        if not problem.passing:
            return problem
        if reached() > furthest:
            left, furthest = list(WAITS), reached()
        if not left:
            return problem
        time.sleep(min(max(left.pop(0), problem.wait), LONGEST, deadline.left()))


def _attempt(url: str, once: Callable[[], Problem | None]) -> Problem | None:
    from urllib3.exceptions import HTTPError

    try:
        return once()
    except HyperinitError:
        raise  # of the disk, or of a setting
    except (OSError, ValueError, HTTPError, HTTPException) as error:  # what libraries make of a hostile reply
        return Problem(f"{shown(url)}: {type(error).__name__}: {masked(error, url)}", _may_pass(error))


@contextmanager
def ask(
    method: str, url: str, headers: Mapping[str, str], *, safe: bool, deadline: Deadline | None = None
) -> Iterator[requests.Response]:
    """Send one request and give the reply, which the block may read piece by piece. No other body is read.

    Args:
        method: "GET", which follows redirects, or "HEAD", which does not.
        url: http or https.
        headers: of the request.
        safe: whether a redirect from https to plain http may be followed, because a digest protects the file.
        deadline: when the connection is closed, also while the block runs.

    Raises:
        requests.RequestException: if there is no reply, an unsafe redirect, or the time is over.
    """
    import requests

    deadline = deadline or Deadline()
    first = requests.Request(method, url, {**headers, "Accept-Encoding": "identity"})  # lengths are the file's
    watch = wire.Watch(deadline.left())
    try:
        with wire.session(watch) as session, _reply(session, first, deadline, safe=safe) as reply:
            yield reply
    finally:
        watch.close()
    if watch.fired:  # an end of the connection can look like the end of the file
        raise requests.Timeout(str(deadline))


def _reply(session: requests.Session, first: requests.Request, deadline: Deadline, *, safe: bool) -> requests.Response:
    """Return the reply after all redirects, whose bodies are not read."""
    import requests

    method, url, headers = str(first.method), str(first.url), dict(first.headers)
    for _ in range(HOPS + 1):
        patience = max(0.001, min(TIMEOUT, deadline.left()))
        reply = session.request(method, url, headers=headers, stream=True, timeout=patience, allow_redirects=False)
        if method == "HEAD" or not reply.is_redirect:
            return reply
        reply.close()
        to = target(reply)
        if not to:
            raise requests.exceptions.InvalidSchema(f"it redirects to {shown(_location(reply))}, no http address")
        if reply.url.lower().startswith("https:") and not to.lower().startswith("https:") and not safe:
            raise requests.exceptions.InvalidURL(f"it redirects to {shown(to)}, which is not https")
        if session.should_strip_auth(reply.url, to):
            headers.pop("Authorization", None)
        url = to
    raise requests.TooManyRedirects(f"more than {HOPS} redirects")


def target(reply: requests.Response) -> str | None:
    """Return the address that a reply redirects to; None if it is malformed, or neither http nor https."""
    return joined(reply.url, _location(reply))


def refusal(url: str, reply: requests.Response) -> Problem:
    """Return the problem of a reply whose status is an error."""
    status = reply.status_code
    passing = status >= 500 or status in LATER
    return Problem(f"{shown(url)}: HTTP status {status}", passing, _wait(reply) if passing else 0)


def _location(reply: requests.Response) -> str:
    """Return the Location, which servers send as UTF-8 and Python decodes as Latin-1."""
    return reply.headers.get("Location", "").encode("latin-1", "replace").decode("utf-8", "replace")


def _may_pass(error: Exception) -> bool:
    """Tell whether a retry may avoid this error; errors of addresses, headers, files and certificates stay."""
    import requests
    from urllib3.exceptions import HTTPError, LocationValueError

    kinds = requests.exceptions
    lasting = (kinds.InvalidURL, kinds.InvalidSchema, kinds.MissingSchema, kinds.InvalidHeader, kinds.TooManyRedirects)
    of_network = isinstance(error, requests.RequestException | HTTPError | HTTPException)
    if not of_network or isinstance(error, (*lasting, LocationValueError)):
        return False
    return "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _wait(reply: requests.Response) -> float:
    """Return the seconds of a reply's Retry-After, which is a number or a date; 0 if there is none."""
    text = reply.headers.get("Retry-After", "")[:100]
    if (number := values.integer(text)) is not None:
        return float(number)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return 0.0
