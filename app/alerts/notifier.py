"""The alert notifier: posts changes of alerts to ALERT_WEBHOOK_URL, in a form that Slack can show.

Only the operator sets the URL: no input of a caller becomes a part of it. Against the remaining request
forgery, cloud metadata addresses are rejected at start (`environment.alert_url`), and redirects are rejected
here. Addresses in the own network are allowed, since receivers may be there. The URL can be a secret, as
Slack's is: it is never logged, and of the client's errors, which may quote it, only the type is.
"""

import asyncio
import html
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import aiohttp
import msgspec
import stamina

from app.alerts.model import AlertChange
from app.lifecycle import SECOND_US
from app.metrics.counters import Counters
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

#: More than this are dropped: by then the reader has got the message.
QUEUE_LIMIT = 64
#: After 1, 5, 25 and 120 s.
_ATTEMPTS, _FIRST_WAIT_S, _WAIT_FACTOR, _LONGEST_WAIT_S = 5, 1.0, 5, 120.0
_TIMEOUT = aiohttp.ClientTimeout(total=10)
#: Time for pending posts at a stop.
_GRACE_S = 1.0
#: Worth a retry, like 5xx: timeout, too early, too many requests.
_TRANSIENT = frozenset({408, 425, 429})


class _NotPosted(Exception):
    """The receiver rejected it, and will reject it the next time."""


class _NotPostedYet(_NotPosted):
    """The receiver was not able to take it; a retry may succeed."""


class AlertNotifier:
    def __init__(
        self,
        url: str | None,
        replica: str,
        counters: Counters,
        hide: Callable[[str], str],
        *,
        first_wait_s: float = _FIRST_WAIT_S,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> None:
        """`url` None: nothing is posted. `hide` is applied to room names."""
        self._url = url
        self._replica = replica
        self._counters = counters
        self._hide = hide
        self._first_wait_s = first_wait_s
        self._timeout = timeout
        self._queue: asyncio.Queue[AlertChange] = asyncio.Queue(QUEUE_LIMIT)
        self._loop = BackgroundLoop("alert post")

    def start(self) -> None:
        if self._url:
            self._loop.start(partial(self._run, self._url))

    def send(self, change: AlertChange) -> None:
        """Queue a change for posting; never waits and never fails."""
        if self._url is None:
            return
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self._counters.alert_posts["dropped"] += 1
            logger.warning(
                "Too many alerts are waiting to be posted; one was dropped", extra={"action": "alert_post"}
            )

    async def close(self) -> None:
        """Wait a moment for pending posts, then cancel them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._queue.join()
        await self._loop.close()

    async def _run(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            while True:
                change = await self._queue.get()
                try:
                    result = "sent" if await self._deliver(session, url, change) else "failed"
                    self._counters.alert_posts[result] += 1
                finally:
                    self._queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, url: str, change: AlertChange) -> bool:
        """True if the receiver accepted it, after retries if need be."""
        body = msgspec.json.encode(_message(change, self._replica, self._hide))
        try:
            async for attempt in stamina.retry_context(
                on=_NotPostedYet,
                attempts=_ATTEMPTS,
                timeout=None,
                wait_initial=self._first_wait_s,
                wait_max=_LONGEST_WAIT_S,
                wait_jitter=self._first_wait_s,
                wait_exp_base=_WAIT_FACTOR,
            ):
                with attempt:
                    await _post(session, url, body)
        except _NotPosted as error:
            fields = {"action": "alert_post", "alert": change.alert.name, "reason": str(error)}
            logger.warning("An alert could not be posted", extra=fields)
            return False
        return True


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            status = response.status
    except Exception as error:  # noqa: BLE001 - no receiver may stop the notifier
        raise _NotPostedYet(type(error).__name__) from None
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return
    if status in _TRANSIENT or status >= 500:  # noqa: PLR2004 - likewise
        raise _NotPostedYet(f"HTTP {status}")
    raise _NotPosted(f"HTTP {status}")


def _message(change: AlertChange, replica: str, hide: Callable[[str], str]) -> dict[str, object]:
    """Slack shows `text`; the rest is for programs."""
    alert, status = change.alert, "raised" if change.resolved_at is None else "resolved"
    head = "Alert" if status == "raised" else "Resolved"
    lines = [f"*{head}: {alert.name}* ({replica})", alert.summary]
    if status == "raised":
        lines.append(alert.advice)
    return {
        # Slack takes these three for markup.
        "text": html.escape("\n".join(lines), quote=False),
        "alert": alert.name,
        "status": status,
        "summary": alert.summary,
        "advice": alert.advice,
        "replica": replica,
        "since": _iso(alert.since_at),
        "resolved": None if change.resolved_at is None else _iso(change.resolved_at),
        "rooms": [hide(room) for room in alert.rooms],
    }


def _iso(at: int) -> str:
    moment = datetime.fromtimestamp(at / SECOND_US, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
