"""The alert notifier: posts changes of alerts to ALERT_WEBHOOK_URL, in a form that Slack can show."""

import asyncio
import html
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import aiohttp
import msgspec
import stamina

from app.alerts.model import AlertChange
from app.clock import to_iso
from app.metrics.counters import Counters
from app.posts import POST_TIMEOUT, PostFailed, open_session, post
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

#: More than this are dropped: by then the reader has got the message.
QUEUE_LIMIT = 64
#: After 1, 5, 25 and 120 s.
_ATTEMPTS, _FIRST_WAIT_S, _WAIT_FACTOR, _LONGEST_WAIT_S = 5, 1.0, 5, 120.0
#: Time for pending posts at a stop.
_GRACE_S = 1.0


class AlertNotifier:
    def __init__(
        self,
        url: str | None,
        replica: str,
        counters: Counters,
        hide: Callable[[str], str],
        *,
        first_wait_s: float = _FIRST_WAIT_S,
        timeout: aiohttp.ClientTimeout = POST_TIMEOUT,
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
        async with open_session(self._timeout) as session:
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
                on=_is_worth_a_retry,
                attempts=_ATTEMPTS,
                timeout=None,
                wait_initial=self._first_wait_s,
                wait_max=_LONGEST_WAIT_S,
                wait_jitter=self._first_wait_s,
                wait_exp_base=_WAIT_FACTOR,
            ):
                with attempt:
                    await post(session, url, body)
        except PostFailed as error:
            fields = {"action": "alert_post", "alert": change.alert.name, "reason": str(error)}
            logger.warning("An alert could not be posted", extra=fields)
            return False
        return True


def _is_worth_a_retry(error: Exception) -> bool:
    return isinstance(error, PostFailed) and error.is_transient


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
        "since": to_iso(alert.since_at),
        "resolved": to_iso(change.resolved_at),
        "rooms": [hide(room) for room in alert.rooms],
    }
