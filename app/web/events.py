"""The endpoints of events: read what happened, see where it is sent, and send it again."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from app.clock import Time, to_iso
from app.errors import Conflict, NotFound
from app.events.sender import message_id
from app.state.deliveries import EndpointStatus
from app.state.events import EventData
from app.web.endpoints import Access, AnyEndpoint, Endpoint
from app.web.keys import SERVICE
from app.web.schemas import NoQuery

_Position = Annotated[int, Meta(ge=0, le=2**53, description="The `position` of an event; 0 is before all.")]
#: JSON does not tell 7.0 from 7.
_JsonPosition = Annotated[
    float, Meta(ge=0, le=2**53, multiple_of=1, description="The `position` of an event, a whole number.")
]
_Name = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[^\x00\ud800-\udfff]*$(?!\n)")]


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    after: _Position = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class EventItem(msgspec.Struct, kw_only=True):
    #: The `webhook-id`, the same each time that the event is sent.
    id: str
    type: str
    timestamp: Time
    data: EventData


class EventList(msgspec.Struct, rename="camel", kw_only=True):
    events: list[EventItem]
    #: The `after` of the next call.
    next: int
    #: How many events behind `after` are not kept any more (EVENT_DAYS).
    missed: int


class ReplayRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    #: The first event that is sent again is the next one.
    after: _JsonPosition
    #: The last one is the one before; null: all until now.
    before: _JsonPosition | None = None
    #: Null: to all endpoints.
    endpoint: _Name | None = None


class ReplayResponse(msgspec.Struct, kw_only=True):
    #: How many deliveries this adds; what waits already is not added again.
    queued: int
    success: bool = True


class EndpointItem(msgspec.Struct, rename="camel", kw_only=True):
    #: The URL without its query.
    endpoint: str
    state: str
    #: All events up to here are delivered or given up.
    delivered_up_to: int
    waiting: int
    waiting_since: Time | None
    failing_since: Time | None
    last_error: str | None
    last_error_at: Time | None
    #: When one that has failed is tried again.
    next_try_at: Time | None
    delivered: int
    last_delivered_at: Time | None
    #: Not delivered for a day; a replay sends them again.
    given_up: int


class EndpointList(msgspec.Struct, kw_only=True):
    endpoints: list[EndpointItem]


async def list_events(request: web.Request, query: EventsQuery) -> EventList:
    found = await request.app[SERVICE].outbox.read(query.after, query.limit)
    items = [
        EventItem(id=message_id(event), type=event.topic, timestamp=to_iso(event.at), data=event.data)
        for event in found
    ]
    return EventList(
        events=items,
        next=found[-1].position if found else query.after,
        # Positions have no gaps.
        missed=found[0].position - query.after - 1 if found else 0,
    )


async def replay_events(request: web.Request, fields: ReplayRequest) -> ReplayResponse:
    before = None if fields.before is None else int(fields.before)
    queued = await request.app[SERVICE].outbox.replay(fields.endpoint, int(fields.after), before)
    return ReplayResponse(queued=queued)


async def list_event_endpoints(request: web.Request, _query: NoQuery) -> EndpointList:
    statuses = await request.app[SERVICE].outbox.endpoints()
    return EndpointList(endpoints=[_item(one) for one in statuses])


def _item(one: EndpointStatus) -> EndpointItem:
    health = one.health
    return EndpointItem(
        endpoint=one.name,
        state=one.state,
        delivered_up_to=one.done_position,
        waiting=one.waiting,
        waiting_since=to_iso(one.waiting_since),
        failing_since=to_iso(health.failing_since),
        last_error=health.last_error,
        last_error_at=to_iso(health.last_error_at),
        next_try_at=to_iso(one.next_try_at),
        delivered=health.delivered,
        last_delivered_at=to_iso(health.delivered_at),
        given_up=health.given_up,
    )


EVENT_ENDPOINTS: tuple[AnyEndpoint, ...] = (
    Endpoint(
        method="GET",
        path="/api/livekit/events",
        access=Access.OPERATOR,
        summary="Read the events behind a position, in order: for who missed some",
        handler=list_events,
        query=EventsQuery,
        answer=EventList,
        errors=(Conflict,),
    ),
    Endpoint(
        method="GET",
        path="/api/livekit/events/endpoints",
        access=Access.OPERATOR,
        summary="List the endpoints that events are sent to, and how each fares",
        handler=list_event_endpoints,
        query=NoQuery,
        answer=EndpointList,
    ),
    Endpoint(
        method="POST",
        path="/api/livekit/events/replay",
        access=Access.OPERATOR,
        summary="Send events again, to one endpoint or to all",
        handler=replay_events,
        body=ReplayRequest,
        answer=ReplayResponse,
        errors=(NotFound,),
    ),
)
