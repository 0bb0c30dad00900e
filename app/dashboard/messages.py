"""The messages to the page, as JSON: dispatches, minutes, alerts and timelines.

Times are milliseconds since 1970 by the service's clock; the page counts from the `at` of each message.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.alerts.model import Alert
from app.dashboard.history import Minute
from app.lifecycle import SECOND_US, Dispatch
from app.lifecycle.descriptions import END_REASONS, STATES, describe
from app.lifecycle.warm import WarmState
from app.state.deliveries import EndpointStatus
from app.state.views import AgentTtl, HistoryLine, WarmCounts
from app.state.workers import Worker, WorkerState


class _Message(msgspec.Struct, rename="camel", kw_only=True):
    pass


class AgentCard(_Message):
    id: str
    dispatch_id: str | None
    room: str
    agent: str
    state: str
    version: int
    people: int
    agent_identity: str | None
    created_at: int
    last_activity_at: int
    ttl_expires_at: int | None
    attempt: int
    cleanup_failures: int
    end_reason: str | None
    ended_at: int | None


class AlertCard(_Message):
    name: str
    summary: str
    advice: str
    since: int


class MinuteCard(_Message):
    at: int
    created: int
    fresh: int
    reused: int
    replaced: int
    cleanups: int
    cleanup_failures: int
    drift: int
    log_lines: int
    log_dropped: int


class TtlCard(_Message):
    """What the TTL of one agent name is, costs and saves; see `AgentTtl`."""

    agent: str
    ttl_s: int
    source: str
    kept: int
    lost: int
    idle_s: int


class WorkerCard(_Message):
    """A worker that reports itself; see `Worker`."""

    id: str
    agents: list[str]
    deployment: str
    version: str
    state: str
    active: int
    slots: int | None
    load: float


class WarmCard(_Message):
    """An agent's warm ones; see `WarmCounts`."""

    agent: str
    wanted: int
    waiting: int
    #: On their way to wait.
    coming: int
    #: In the rooms of people.
    claimed: int


class EndpointCard(_Message):
    """Where events are sent, and how it fares; see `EndpointStatus`."""

    name: str
    #: delivering, failing or disabled.
    state: str
    done: int
    waiting: int
    waiting_since: int | None
    failing_since: int | None
    last_error: str | None
    next_try_at: int | None
    given_up: int


class Beat(_Message):
    """The current state, sent even without changes: a missing beat shows the page that it is out of date."""

    at: int
    #: The number of dispatches by state, including those not shown.
    counts: dict[str, int]
    alerts: list[AlertCard]
    #: The current minute.
    minute: MinuteCard
    ttls: list[TtlCard]
    workers: list[WorkerCard]
    warm: list[WarmCard]
    endpoints: list[EndpointCard]
    #: Why the data may be out of date; None if it is not.
    problem: str | None


class Snapshot(_Message):
    at: int
    agents: list[AgentCard]
    minutes: list[MinuteCard]
    max_live: int
    max_ended: int


class Changes(_Message):
    at: int
    agents: list[AgentCard]


class TimelineEntry(_Message):
    at: int
    event: str
    what: str
    from_state: str | None
    to_state: str
    meaning: str
    people: int


class Timeline(_Message):
    agent: AgentCard
    #: The row of the dispatch that this one took over from.
    succeeds: str | None
    end_reason: str | None
    entries: list[TimelineEntry]


def encode_event(name: str, message: _Message) -> bytes:
    """Encode one server-sent event, once for all subscribers."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(message))


def agent_card(dispatch: Dispatch) -> AgentCard:
    return AgentCard(
        id=dispatch.id,
        dispatch_id=dispatch.dispatch_id,
        room=dispatch.room_name,
        agent=dispatch.agent_name,
        state=dispatch.state,
        version=dispatch.version,
        people=dispatch.participant_count,
        agent_identity=dispatch.agent_identity,
        created_at=to_ms(dispatch.created_at),
        last_activity_at=to_ms(dispatch.last_activity_at),
        ttl_expires_at=_to_ms(dispatch.ttl_expires_at),
        attempt=dispatch.attempt,
        cleanup_failures=dispatch.cleanup_failures,
        end_reason=dispatch.end_reason,
        ended_at=_to_ms(dispatch.ended_at),
    )


def minute_card(minute: Minute) -> MinuteCard:
    return MinuteCard(at=to_ms(minute.at), **vars(minute.counts))


def ttl_card(one: AgentTtl) -> TtlCard:
    return TtlCard(
        agent=one.agent_name,
        ttl_s=one.ttl_us // SECOND_US,
        source=one.source,
        kept=one.kept,
        lost=one.lost,
        idle_s=one.idle_us // SECOND_US,
    )


def worker_card(worker: Worker, state: WorkerState) -> WorkerCard:
    return WorkerCard(
        id=worker.id,
        agents=list(worker.agent_names),
        deployment=worker.deployment,
        version=worker.version,
        state=state,
        active=worker.active,
        slots=worker.slots,
        load=worker.load,
    )


def warm_card(one: WarmCounts) -> WarmCard:
    def count(*states: WarmState) -> int:
        return sum(one.by_state.get(state, 0) for state in states)

    return WarmCard(
        agent=one.agent_name,
        wanted=one.wanted,
        waiting=count(WarmState.WAITING),
        coming=count(WarmState.CREATING, WarmState.STARTING),
        claimed=count(WarmState.CLAIMED),
    )


def endpoint_card(one: EndpointStatus) -> EndpointCard:
    health = one.health
    return EndpointCard(
        name=one.name,
        state=one.state,
        done=one.done_position,
        waiting=one.waiting,
        waiting_since=_to_ms(one.waiting_since),
        failing_since=_to_ms(health.failing_since),
        last_error=health.last_error,
        next_try_at=_to_ms(one.next_try_at),
        given_up=health.given_up,
    )


def beat(
    at: int,
    counts: Mapping[str, int],
    alerts: Iterable[Alert],
    minute: Minute,
    ttls: Iterable[AgentTtl],
    workers: Iterable[tuple[Worker, WorkerState]],
    warm: Iterable[WarmCounts],
    endpoints: Iterable[EndpointStatus],
    problem: str | None,
) -> Beat:
    return Beat(
        at=to_ms(at),
        counts=dict(counts),
        alerts=[
            AlertCard(name=one.name, summary=one.summary, advice=one.advice, since=to_ms(one.since_at))
            for one in alerts
        ],
        minute=minute_card(minute),
        ttls=[ttl_card(one) for one in ttls],
        workers=[worker_card(worker, state) for worker, state in workers],
        warm=[warm_card(one) for one in warm],
        endpoints=[endpoint_card(one) for one in endpoints],
        problem=problem,
    )


def timeline(dispatch: Dispatch, lines: Sequence[HistoryLine]) -> Timeline:
    entries = [
        TimelineEntry(
            at=to_ms(line.at),
            event=line.event,
            what=describe(line.event, line.from_state),
            from_state=line.from_state,
            to_state=line.to_state,
            meaning=STATES.get(line.to_state, line.to_state),
            people=line.people,
        )
        for line in lines
    ]
    reason = END_REASONS[dispatch.end_reason] if dispatch.end_reason else None
    return Timeline(
        agent=agent_card(dispatch), succeeds=dispatch.succeeds, end_reason=reason, entries=entries
    )


def to_ms(at: int) -> int:
    return at // 1_000


def _to_ms(at: int | None) -> int | None:
    return None if at is None else to_ms(at)
