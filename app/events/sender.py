"""The sender: signs an event by Standard Webhooks, and posts it once."""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp
from standardwebhooks import Webhook

from app.config.event_endpoints import EventEndpoint
from app.lifecycle import SECOND_US
from app.posts import POST_TIMEOUT, PostFailed, open_session, post
from app.state.deliveries import Attempt, Delivery
from app.state.events import LoggedEvent

#: By this a receiver says that it wants no more events.
_GONE = 410
#: Waits are between 0.8 and 1.2 times as long.
_JITTER = 0.2


class Sender:
    def __init__(
        self,
        endpoints: Sequence[EventEndpoint],
        *,
        timeout: aiohttp.ClientTimeout = POST_TIMEOUT,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`wall`: the receiver compares with its own clock, so ours may jump here."""
        self._urls = {endpoint.name: endpoint.url for endpoint in endpoints}
        self._signers = {endpoint.name: tuple(map(Webhook, endpoint.secrets)) for endpoint in endpoints}
        self._timeout = timeout
        self._wall = wall
        self._session: aiohttp.ClientSession | None = None

    async def send(self, delivery: Delivery) -> Attempt:
        """Post it once; never raises."""
        name, event = delivery
        body = event.body
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nobody gains by guessing it
        self._session = self._session or open_session(self._timeout)
        try:
            await post(self._session, self._urls[name], body, self.headers(name, event))
        except PostFailed as failure:
            wait_s = failure.retry_after_s
            return Attempt(
                name,
                event.position,
                error=str(failure),
                retry_after_us=None if wait_s is None else wait_s * SECOND_US,
                is_gone=failure.status == _GONE,
                jitter=jitter,
            )
        return Attempt(name, event.position)

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def headers(self, name: str, event: LoggedEvent) -> Mapping[str, str]:
        """The id of the event, the time of this try, and a signature with each secret of the endpoint."""
        at, sent_id, text = self._wall(), message_id(event), event.body.decode()
        return {
            "webhook-id": sent_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(sent_id, at, text) for signer in self._signers[name]),
        }


def message_id(event: LoggedEvent) -> str:
    """The same each time that the event is sent, so that a receiver can tell a repetition."""
    return f"evt_{event.message_id}"
