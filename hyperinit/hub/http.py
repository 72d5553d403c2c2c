"""Sends HTTP requests, and repeats those whose failure may be temporary.

Proxies (`HTTPS_PROXY`, `NO_PROXY`), private certificates (`REQUESTS_CA_BUNDLE`) and `.netrc` work as always with
requests. A failure of the server raises no error; a `Problem` describes it.
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


TIMEOUT = 30.0  # seconds without a reply, or without another byte
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each retry of one address
LONGEST = 60.0  # seconds: limit of a server's Retry-After
LATER = (408, 425, 429)  # status codes besides 5xx that a retry may change


@dataclass(frozen=True)
class Problem:
    """Why an attempt failed, whether to retry, and after how many seconds the server asks for the retry."""

    text: str
    passing: bool = False
    wait: float = 0.0


def shown(url: str) -> str:
    """Return an address without user name and password, for messages.

    >>> shown("https://me:secret@example.org/a?b")
    'https://example.org/a?b'
    """
    return re.sub(r"^([^:/]+://)[^/?#]*@", r"\1", url)


def insist(url: str, once: Callable[[], Problem | None], reached: Callable[[], int] = lambda: 0) -> Problem | None:
    """Make an attempt, and retry after a pause while the problem may be temporary; return the last problem, or None.

    Args:
        url: for messages.
        once: one attempt. It returns its problem, or lets errors of requests pass.
        reached: bytes downloaded so far. More bytes than ever before reset the number of retries, so that a long
            download may be interrupted often.
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
    """Send one request and return the reply; its body is not read yet.

    Args:
        method: "GET" or "HEAD".
        url: http or https.
        headers: of the request.
        safe: whether a redirect from https to plain http may be followed, because a digest protects the file.
        follow: whether to follow redirects.

    Raises:
        requests.RequestException: if there is no reply, or an unsafe redirect.
    """
    import requests

    def guard(reply: requests.Response, *_: object, **__: object) -> None:
        to = urljoin(reply.url, reply.headers.get("Location", ""))
        if reply.is_redirect and urlsplit(reply.url).scheme == "https" and urlsplit(to).scheme != "https" and not safe:
            raise requests.exceptions.InvalidURL(f"it redirects to {shown(to)}, which is not https")

    return requests.request(
        method,
        url,
        headers={
            **headers,
            "Accept-Encoding": "identity",
        },  # uncompressed: lengths and ranges are the file's
        stream=True,
        timeout=TIMEOUT,
        allow_redirects=follow,
        hooks={"response": guard},
    )


def refusal(url: str, reply: requests.Response) -> Problem:
    """Return the problem of a reply whose status is an error."""
    status = reply.status_code
    passing = status >= 500 or status in LATER
    return Problem(f"{shown(url)}: HTTP status {status}", passing, _wait(reply) if passing else 0)


def _may_pass(error: Exception) -> bool:
    """Tell whether a retry may avoid this error; errors of addresses, headers and certificates stay."""
    import requests

    kinds = requests.exceptions
    lasting = (kinds.InvalidURL, kinds.InvalidSchema, kinds.MissingSchema, kinds.InvalidHeader, kinds.TooManyRedirects)
    return not isinstance(error, lasting) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _wait(reply: requests.Response) -> float:
    """Return the seconds of a reply's Retry-After, which is a number or a date; 0 if there is none."""
    text = reply.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
