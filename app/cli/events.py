"""The endpoints that a running service sends events to, as a table; and the replay of events."""

from collections.abc import Sequence

import msgspec

from app.cli.calls import call, open_session
from app.cli.columns import aligned
from app.logs.formats import printable
from app.web.events import EndpointItem, EndpointList, ReplayResponse

_EVENTS = "/api/livekit/events"
_HEADINGS = ("ENDPOINT", "STATE", "DELIVERED UP TO", "WAITING", "GIVEN UP", "LAST ERROR", "NEXT TRY")


async def endpoints(base_url: str, api_key: str) -> Sequence[EndpointItem]:
    """Raises: CallFailed."""
    async with open_session(base_url, api_key) as session:
        return (await call(session, "GET", f"{_EVENTS}/endpoints", EndpointList)).endpoints


async def replay(base_url: str, api_key: str, endpoint: str | None, after: int, before: int | None) -> int:
    """Have events sent again; returns the number of deliveries. Raises: CallFailed."""
    body = {"endpoint": endpoint, "after": after, "before": before}
    async with open_session(base_url, api_key) as session:
        return (await call(session, "POST", f"{_EVENTS}/replay", ReplayResponse, body=body)).queued


def table(items: Sequence[EndpointItem]) -> list[str]:
    if not items:
        return ["events are sent nowhere: EVENT_WEBHOOKS is not set"]
    return aligned([_HEADINGS, *map(_row, items)])


def to_json(items: Sequence[EndpointItem]) -> str:
    return msgspec.json.format(msgspec.json.encode(EndpointList(endpoints=list(items)))).decode()


def _row(item: EndpointItem) -> Sequence[str]:
    return (
        printable(item.endpoint),
        item.state,
        str(item.delivered_up_to),
        str(item.waiting),
        str(item.given_up),
        item.last_error or "-",
        item.next_try_at or "-",
    )
