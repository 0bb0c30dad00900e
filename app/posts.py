"""Posts to URLs of the operator's: bounded, without redirects, and without a word of the URL in an error.

Only the operator sets such a URL: no input of a caller becomes a part of it. Against the remaining request
forgery, cloud metadata addresses are rejected at start (`environment.receiver_url`), and redirects are
rejected here. Addresses in the own network are allowed, since receivers may be there. A URL can be a secret,
as Slack's is: it is never logged, and of the client's errors, which may quote it, only the type is.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp

POST_TIMEOUT = aiohttp.ClientTimeout(total=10)
_JSON = {"Content-Type": "application/json"}
#: Worth a retry, like 5xx: timeout, too early, too many requests.
_TRANSIENT = frozenset({408, 425, 429})
#: Those whose Retry-After counts.
_PAUSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LONGEST_PAUSE_S = 3_600


class PostFailed(Exception):
    """The receiver has not taken it; the message is its status, or the type of the error."""

    def __init__(self, reason: str, status: int | None = None, retry_after_s: int | None = None) -> None:
        """`status` None: the receiver did not answer."""
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_transient(self) -> bool:
        """Whether the same may be taken later without a change of the receiver."""
        return self.status is None or self.status in _TRANSIENT or self.status >= 500  # noqa: PLR2004 - HTTP's own


def open_session(timeout: aiohttp.ClientTimeout = POST_TIMEOUT) -> aiohttp.ClientSession:
    """A session for posts; whoever uses it bounds their number."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Post JSON; the answer's body is not read.

    Raises:
        PostFailed: the answer is not 2xx, or there is none.
    """
    sent = {**_JSON, **(headers or {})}
    try:
        async with session.post(url, data=body, headers=sent, allow_redirects=False) as response:
            status, wait = response.status, response.headers.get("Retry-After", "")
    except Exception as error:  # noqa: BLE001 - no receiver may stop whoever posts
        raise PostFailed(type(error).__name__) from None
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        raise PostFailed(f"HTTP {status}", status, _seconds(wait) if status in _PAUSING else None)


def _seconds(retry_after: str) -> int | None:
    """The form as a date is rare, and our own schedule does as well."""
    if not re.fullmatch(r"[0-9]{1,9}", retry_after.strip(), re.ASCII):
        return None
    return min(int(retry_after), _LONGEST_PAUSE_S)
