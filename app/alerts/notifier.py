"""Posts what is new about alerts to ALERT_WEBHOOK_URL, in a form that Slack shows as it is.

The operator sets the URL, nobody else can: what a caller says never becomes a part of it. What is left of
forged requests is refused: cloud metadata at start (`settings.alert_url`), redirects here. Addresses of the
own network are allowed, since receivers may live there. The URL can be a secret, as Slack's is: it stands in
no log line and no error, and errors of the client, which may quote it, are told by their type alone.
"""

import asyncio
import html
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec

from app.alerts.model import AlertChange
from app.lifecycle import SECOND_US
from app.metrics.counters import Counters

logger = logging.getLogger(__name__)

#: What waits beyond this is dropped: whoever reads them has long got the message.
QUEUE_LIMIT = 64
_WAITS_S = (1.0, 5.0, 30.0, 120.0)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
#: How long posts under way may take at a stop.
_GRACE_S = 1.0
#: Worth another try: too early, too many, and whatever is the receiver's own fault.
_TRANSIENT = frozenset({408, 425, 429})


class _Refused(Exception):
    """The receiver does not take it, and will not the next time."""


class _Unwell(Exception):
    """The receiver cannot take it now."""


class AlertNotifier:
    def __init__(
        self,
        url: str | None,
        replica: str,
        counters: Counters,
        hide: Callable[[str], str],
        *,
        waits_s: Sequence[float] = _WAITS_S,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> None:
        """`url` None: nothing is posted. `hide` is applied to the names of rooms."""
        self._url = url
        self._replica = replica
        self._counters = counters
        self._hide = hide
        self._waits_s = waits_s
        self._timeout = timeout
        self._queue: asyncio.Queue[AlertChange] = asyncio.Queue(QUEUE_LIMIT)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._url:
            self._task = asyncio.create_task(self._run(self._url), name="alert post")

    def send(self, changes: AlertChange) -> None:
        """Take it for posting; never waits and never fails."""
        if self._url is None:
            return
        try:
            self._queue.put_nowait(changes)
        except asyncio.QueueFull:
            self._counters.alert_posts["dropped"] += 1
            logger.warning(
                "Too many alerts wait to be posted; one was dropped", extra={"action": "alert_post"}
            )

    async def close(self) -> None:
        """Give what waits a moment, and then up."""
        if self._task is None:
            return
        joined = asyncio.create_task(self._queue.join())
        await asyncio.wait([joined, self._task], timeout=_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (joined, self._task):
            task.cancel()
        await asyncio.gather(joined, self._task, return_exceptions=True)

    async def _run(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            while True:
                changes = await self._queue.get()
                result = "sent" if await self._deliver(session, url, changes) else "failed"
                self._counters.alert_posts[result] += 1
                self._queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, url: str, changes: AlertChange) -> bool:
        """Whether the receiver took it, within a few tries."""
        body = msgspec.json.encode(message(changes, self._replica, self._hide))
        reason = ""
        for wait_s in (*self._waits_s, None):
            try:
                await _post(session, url, body)
            except _Refused as refusal:
                reason = str(refusal)
                break
            except _Unwell as trouble:
                reason = str(trouble)
            except Exception as error:  # noqa: BLE001 - nothing that a receiver does may end the posting
                reason = type(error).__name__
            else:
                return True
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        fields = {"action": "alert_post", "alert": changes.alert.name, "reason": reason}
        logger.warning("An alert could not be posted", extra=fields)
        return False


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        status = response.status
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return
    if status in _TRANSIENT or status >= 500:  # noqa: PLR2004 - likewise
        raise _Unwell(f"HTTP {status}")
    raise _Refused(f"HTTP {status}")


class Message(msgspec.Struct, kw_only=True):
    """`text` is what Slack shows; the rest is for programs."""

    text: str
    alert: str
    status: str
    summary: str
    advice: str
    replica: str
    since: str
    resolved: str | None
    rooms: list[str]


def message(changes: AlertChange, replica: str, hide: Callable[[str], str]) -> Message:
    alert, is_over = changes.alert, changes.resolved_at is not None
    head = f"*Resolved: {alert.name}*" if is_over else f"*Alert: {alert.name}*"
    lines = [f"{head} ({replica})", alert.summary, *([] if is_over else [alert.advice])]
    return Message(
        # As Slack wants it: these three would be its markup.
        text=html.escape("\n".join(lines), quote=False),
        alert=alert.name,
        status="resolved" if is_over else "raised",
        summary=alert.summary,
        advice=alert.advice,
        replica=replica,
        since=_iso(alert.since_at),
        resolved=None if changes.resolved_at is None else _iso(changes.resolved_at),
        rooms=[hide(room) for room in alert.rooms],
    )


def _iso(at: int) -> str:
    moment = datetime.fromtimestamp(at / SECOND_US, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
