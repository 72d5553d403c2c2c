"""One request over HTTP, and again while that may help.

Proxies (`HTTPS_PROXY`, `NO_PROXY`), private certificates (`REQUESTS_CA_BUNDLE`) and `.netrc` work as everywhere with
requests. Nothing here raises for what a server does: a `Problem` says what is wrong.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    import requests


TIMEOUT = 30.0  # seconds without an answer, or without another byte
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt at one address
LONGEST = 60.0  # seconds that a server's Retry-After can make us wait
LATER = (408, 425, 429)  # answers besides 5xx that another attempt may change


@dataclass(frozen=True)
class Problem:
    """Why an attempt failed; whether another one may help, and after how many seconds the server wants it."""

    text: str
    passing: bool = False
    wait: float = 0.0


def shown(url: str) -> str:
    """Return an address without the password that it may hold.

    >>> shown("https://me:secret@example.org/a?b")
    'https://example.org/a?b'
    """
    return re.sub(r"^([^:/]+://)[^/?#]*@", r"\1", url)


def insist(url: str, once: Callable[[], Problem | None], reached: Callable[[], int] = lambda: 0) -> Problem | None:
    """Make one attempt, and further ones after a pause while that may help; return what is wrong, or None.

    Args:
        url: for messages.
        once: one attempt; what requests raises is a problem that may pass.
        reached: bytes that are there; the count of attempts begins anew when there are more than ever before.
    """
    import requests
    from urllib3.exceptions import HTTPError

    left, furthest = list(WAITS), reached()
    while True:
        try:
            problem = once()
        except (requests.RequestException, HTTPError) as error:
            problem = Problem(f"{shown(url)}: {type(error).__name__}: {error}", _may_pass(error))
        if problem is None or not problem.passing:
            return problem
        if reached() > furthest:
            left, furthest = list(WAITS), reached()
        if not left:
            return problem
        time.sleep(min(max(left.pop(0), problem.wait), LONGEST))


def ask(method: str, url: str, headers: Mapping[str, str], *, safe: bool, follow: bool = True) -> requests.Response:
    """Send one request; the body is left to be read.

    Args:
        method: "GET" or "HEAD".
        url: http or https.
        headers: to send.
        safe: whether a redirect from https to plain http may be followed, since a digest protects the file.
        follow: whether to follow redirects at all.

    Raises:
        requests.RequestException: if there is no answer.
    """
    import requests

    def guard(reply: requests.Response, *_: object, **__: object) -> None:
        to = urljoin(reply.url, reply.headers.get("Location", ""))
        if reply.is_redirect and urlsplit(reply.url).scheme == "https" and urlsplit(to).scheme != "https" and not safe:
            raise requests.exceptions.InvalidURL(f"it redirects to {shown(to)}, which nothing protects")

    return requests.request(
        method,
        url,
        headers={**headers, "Accept-Encoding": "identity"},  # the file as it lies there, not unpacked on the way
        stream=True,
        timeout=TIMEOUT,
        allow_redirects=follow,
        hooks={"response": guard},
    )


def refusal(url: str, reply: requests.Response) -> Problem:
    """Return the problem that an answer without the file is."""
    status = reply.status_code
    passing = status >= 500 or status in LATER
    return Problem(f"{shown(url)}: HTTP status {status}", passing, _wait(reply) if passing else 0)


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may do without this error: not those about addresses, headers and certificates."""
    import requests

    kinds = requests.exceptions
    lasting = (kinds.InvalidURL, kinds.InvalidSchema, kinds.MissingSchema, kinds.InvalidHeader, kinds.TooManyRedirects)
    return not isinstance(error, lasting) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _wait(reply: requests.Response) -> float:
    """Seconds that a server asks to wait, which it says as a number or as a date."""
    text = reply.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
