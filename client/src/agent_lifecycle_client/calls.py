"""The calls of the API, without any input or output: what to send, and how to read what comes back.

Each function here is a method of both clients, under the name that the OpenAPI document gives the operation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from agent_lifecycle_client import models
from agent_lifecycle_client.model_base import Model

T = TypeVar("T", bound=Model)

#: The longest that the service makes a call with `wait="ready"` wait, with a margin for its answer.
READY_WAIT_S = 60.0

_API = "/api/livekit"
_DISPATCH = f"{_API}/dispatch-agent"
_AGENTS = f"{_API}/agents"
_EVENTS = f"{_API}/events"
_WORKERS = f"{_API}/workers"


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request, and the type of its answer."""

    method: str
    path: str
    answer: type[T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    #: The statuses with that answer.
    statuses: frozenset[int] = frozenset({200})
    #: Whether it may be sent again when nobody knows what the first one did.
    is_repeatable: bool = True
    #: How much longer than others it may take.
    extra_s: float = 0.0


def request_agent(
    room_name: str,
    *,
    agent_name: str | None = None,
    metadata: str | Mapping[str, Any] | None = None,
    replace_if_metadata_differs: bool = False,
    timezone: str | None = None,
    timezone_offset: float | None = None,
    resume: bool = False,
    wait: Literal["ready"] | None = None,
    wait_s: float = 0,
) -> Call[models.DispatchResponse]:
    """Get one agent that answers into the room: the one that is there, or a new one.

    Args:
        room_name: the room; it need not exist.
        agent_name: one of the service's `AGENT_NAME`; by default the first.
        metadata: what a new agent is told; needs an API key, unless `MEMBER_METADATA` is set.
        replace_if_metadata_differs: whether an agent that was told something else is replaced.
        timezone: the caller's, as an IANA name.
        timezone_offset: in minutes.
        resume: whether an agent that is on hold comes back.
        wait: `"ready"`: the answer comes once the agent answers; it takes up to a minute.
        wait_s: how long to wait for a place when the agent is at capacity: up to 30 s.

    Raises:
        NoWorker: with `wait`: no worker has taken the job.
        CrashLoop: with `wait`: the agent has failed too often.
        JoinTimeout: with `wait`: the agent does not answer in time.
        AgentEnded: with `wait`: somebody has ended the agent meanwhile.
        OnHold: with `wait`: a human has taken over.
        AtCapacity: nothing was made.
    """
    body = {
        "roomName": room_name,
        "agentName": agent_name,
        "metadata": metadata,
        "replaceIfMetadataDiffers": replace_if_metadata_differs or None,
        "timezone": timezone,
        "timezoneOffset": timezone_offset,
        "resume": resume or None,
        "wait": wait,
        "waitS": wait_s or None,
    }
    return Call(
        method="POST",
        path=_DISPATCH,
        answer=models.DispatchResponse,
        body=_given(body),
        # Somebody may have put the agent on hold once more since.
        is_repeatable=not resume,
        extra_s=wait_s + (READY_WAIT_S if wait else 0),
    )


def end_agent(
    room_name: str, *, agent_name: str | None = None, only_if_empty: bool = False
) -> Call[models.EndResponse]:
    """End the room's agent now; also succeeds when there is none.

    With `only_if_empty` it stays while people are in the room.
    """
    return Call(
        method="DELETE",
        path=_DISPATCH,
        answer=models.EndResponse,
        params=_params(
            roomName=room_name, agentName=agent_name, onlyIfEmpty="true" if only_if_empty else None
        ),
        # Somebody may have requested another agent since.
        is_repeatable=False,
    )


def show_status(room_name: str, *, agent_name: str | None = None) -> Call[models.StatusResponse]:
    """Get the state of the room's agent."""
    return Call(
        method="GET",
        path=f"{_API}/agent-status",
        answer=models.StatusResponse,
        params=_params(roomName=room_name, agentName=agent_name),
    )


def issue_token(
    *,
    room_name: str | None = None,
    participant_identity: str | None = None,
    participant_name: str | None = None,
    participant_metadata: str | None = None,
    participant_attributes: Mapping[str, str] | None = None,
    room_config: Mapping[str, Any] | None = None,
) -> Call[models.TokenResponse]:
    """Issue a token with which a participant joins; the service dispatches the agents in `room_config`.

    Name room and identity: both are random otherwise. `room_config` is LiveKit's RoomConfiguration, such as
    `{"agents": [{"agent_name": "my-agent"}]}`.
    """
    body = {
        "room_name": room_name,
        "participant_identity": participant_identity,
        "participant_name": participant_name,
        "participant_metadata": participant_metadata,
        "participant_attributes": participant_attributes,
        "room_config": room_config,
    }
    return Call(
        method="POST",
        path=f"{_API}/token",
        answer=models.TokenResponse,
        body=_given(body),
        statuses=frozenset({201}),
    )


def list_agents(
    *,
    state: Sequence[str] = (),
    room_name: str | None = None,
    agent_name: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[models.AgentList]:
    """List agents, newest first; live ones unless `state` has others. `next_cursor` is for the next page."""
    params = _params(
        state=",".join(state) or None,
        roomName=room_name,
        agentName=agent_name,
        limit=limit,
        cursor=cursor,
    )
    return Call(method="GET", path=_AGENTS, answer=models.AgentList, params=params)


def show_agent(dispatch_id: str) -> Call[models.AgentHistory]:
    """Get one dispatch and its history. Raises: NotFound: there is none."""
    return Call(method="GET", path=f"{_AGENTS}/{_segment(dispatch_id)}", answer=models.AgentHistory)


def hold_agent(dispatch_id: str) -> Call[models.DispatchResponse]:
    """Put the agent on hold: it leaves, and none comes until it is resumed.

    Raises:
        NotFound: there is no such dispatch.
        Conflict: its room has no agent.
    """
    return _on_dispatch(dispatch_id, "hold")


def resume_agent(dispatch_id: str) -> Call[models.DispatchResponse]:
    """Bring the room's agent back; `dispatch_id` may be that of any dispatch of it.

    Raises:
        NotFound: there is no such dispatch.
        Conflict: the agent is not on hold.
    """
    return _on_dispatch(dispatch_id, "resume")


def show_usage(
    *,
    first: date | None = None,
    to: date | None = None,
    by: Literal["agent", "day", "room"] = "agent",
) -> Call[models.UsageResponse]:
    """Get what agents cost, from `first` to the day before `to`, in UTC; by default the last 30 days."""
    return Call(
        method="GET",
        path=f"{_API}/usage",
        answer=models.UsageResponse,
        params=_params(**{"from": _day(first)}, to=_day(to), by=by),
    )


def forget_room(room_name: str, *, agent_name: str | None = None) -> Call[models.ForgottenResponse]:
    """Forget what agents remember of the room; also succeeds when there is nothing.

    Raises:
        MemoryOff: the service keeps no memories.
    """
    return Call(
        method="DELETE",
        path=f"{_API}/memory",
        answer=models.ForgottenResponse,
        params=_params(roomName=room_name, agentName=agent_name),
        # There may be a new conversation by then.
        is_repeatable=False,
    )


def list_events(*, after: int | None = None, limit: int | None = None) -> Call[models.EventList]:
    """Get the events behind a position, in order; `next` is the `after` of the next call.

    Raises:
        Conflict: there is no such position: the service's database was restored from an older backup.
    """
    return Call(
        method="GET",
        path=_EVENTS,
        answer=models.EventList,
        params=_params(after=after, limit=limit),
    )


def list_event_endpoints() -> Call[models.EndpointList]:
    """List the endpoints that events are sent to, and how each fares."""
    return Call(method="GET", path=f"{_EVENTS}/endpoints", answer=models.EndpointList)


def replay_events(
    *, after: int, before: int | None = None, endpoint: str | None = None
) -> Call[models.ReplayResponse]:
    """Have the events between two positions sent again, to one endpoint or to all.

    Raises:
        NotFound: there is no such endpoint.
    """
    return Call(
        method="POST",
        path=f"{_EVENTS}/replay",
        answer=models.ReplayResponse,
        body=_given({"after": after, "before": before, "endpoint": endpoint}),
    )


def list_workers() -> Call[models.WorkerList]:
    """List the workers that report themselves."""
    return Call(method="GET", path=_WORKERS, answer=models.WorkerList)


def drain_worker(worker_id: str) -> Call[models.WorkerList]:
    """Drain a worker: it takes no more jobs, and its idle agents end. Raises: NotFound: there is none."""
    return Call(method="POST", path=f"{_WORKERS}/{_segment(worker_id)}/drain", answer=models.WorkerList)


def undrain_worker(worker_id: str) -> Call[models.WorkerList]:
    """Cancel the drain of a worker; also succeeds when there is none."""
    return Call(method="DELETE", path=f"{_WORKERS}/{_segment(worker_id)}/drain", answer=models.WorkerList)


def drain_deployment(deployment: str) -> Call[models.WorkerList]:
    """Drain the workers of a deployment, those that start later included."""
    return _on_deployment("POST", deployment)


def undrain_deployment(deployment: str) -> Call[models.WorkerList]:
    """Cancel the drain of a deployment; also succeeds when there is none."""
    return _on_deployment("DELETE", deployment)


def show_health() -> Call[models.Health]:
    """Ask whether the process runs."""
    return Call(method="GET", path="/healthz", answer=models.Health)


def show_readiness() -> Call[models.Report]:
    """Ask whether the service can take traffic, and if not, why."""
    return Call(method="GET", path="/readyz", answer=models.Report, statuses=frozenset({200, 503}))


def _on_dispatch(dispatch_id: str, act: str) -> Call[models.DispatchResponse]:
    return Call(
        method="POST",
        path=f"{_AGENTS}/{_segment(dispatch_id)}/{act}",
        answer=models.DispatchResponse,
        # Somebody may have done the opposite since.
        is_repeatable=False,
    )


def _on_deployment(method: str, deployment: str) -> Call[models.WorkerList]:
    # Not `_params`: "" stands for the workers without a deployment.
    return Call(
        method=method,
        path=f"{_WORKERS}/drain",
        answer=models.WorkerList,
        params={"deployment": deployment},
    )


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _segment(text: str) -> str:
    return quote(text, safe="")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _params(**fields: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in _given(fields).items()}
