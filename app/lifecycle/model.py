"""The data of the state machine: dispatch, states, events, effects, policy."""

from dataclasses import dataclass, field
from enum import StrEnum

SECOND_US = 1_000_000


class State(StrEnum):
    CREATING = "creating"  #: the intent is stored; LiveKit has not confirmed a dispatch yet
    STARTING = "starting"  #: dispatched; the agent is not in the room yet
    ACTIVE = "active"  #: the agent and people are in the room
    IDLE = "idle"  #: the agent is alone in the room; the TTL runs
    UNAVAILABLE = "unavailable"  #: wanted, but no worker provided an agent; retried while people wait
    ENDING = "ending"  #: claimed for removal from LiveKit
    ENDED = "ended"  #: over, with a reason


#: The database allows one row in these states for each room and agent name.
LIVE_STATES = (State.CREATING, State.STARTING, State.ACTIVE, State.IDLE, State.UNAVAILABLE)


class EndReason(StrEnum):
    EXPIRED = "expired"
    REQUESTED = "requested"
    ROOM_FINISHED = "room_finished"
    AGENT_LEFT = "agent_left"
    AGENT_FAILED = "agent_failed"
    NEVER_JOINED = "never_joined"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    GONE = "gone"


class Event(StrEnum):
    DISPATCHED = "dispatched"  #: LiveKit holds the dispatch
    NOT_DISPATCHED = "not_dispatched"  #: LiveKit rejected it, or confirmed that it does not hold it
    PEOPLE_IN = "people_in"  #: a person joined, stays, or was found in the room
    PEOPLE_OUT = "people_out"  #: the last person left
    AGENT_IN = "agent_in"  #: its agent joined
    AGENT_LEFT = "agent_left"  #: its agent finished and left
    AGENT_HANDED_OVER = "agent_handed_over"  #: its agent left soon after it had brought somebody in
    PUBLISHER_LEFT = "publisher_left"  #: its last agent left with the publisher that it was for
    AGENT_LOST = "agent_lost"  #: its agent died, lost its network, or its worker was shut down
    ROOM_FINISHED = "room_finished"  #: LiveKit closed this instance of the room
    REUSED = "reused"  #: a caller requested an agent and this one responded
    END_REQUESTED = "end_requested"  #: a caller requested its end
    SUPERSEDED = "superseded"  #: a caller wants an agent that is told something else
    REFUTED = "refuted"  #: its agent does not respond: it is frozen, or its session is closed
    MISSING = "missing"  #: LiveKit does not list it
    DUPLICATE = "duplicate"  #: another dispatch of that agent name in that room is better
    UNTAKEN = "untaken"  #: LiveKit shows no job for it although it should: no worker took the job
    HELD = "held"  #: the join deadline passed, but a worker still holds the job
    JOIN_OVERDUE = "join_overdue"  #: the join deadline passed without an agent
    TTL_EXPIRED = "ttl_expired"  #: the TTL expired with no person in the room
    RETRY_DUE = "retry_due"  #: time to retry what failed or what a crash interrupted
    OCCUPIED = "occupied"  #: LiveKit reported people in the room before the deletion
    REMOVED = "removed"  #: dispatch and agent are gone from LiveKit
    REMOVE_FAILED = "remove_failed"  #: LiveKit was not reachable, or rejected the removal


class Effect(StrEnum):
    CREATE = "create"  #: create the dispatch in LiveKit, or find it there
    REMOVE = "remove"  #: delete the dispatch from LiveKit and remove its agent
    EXPIRE = "expire"  #: the same, but only after LiveKit confirms that no person is in the room
    CHECK = "check"  #: a person joined an agent whose session may be closed: probe it
    CHECK_JOB = "check_job"  #: no agent is in the room yet: check whether a worker took the job
    ALERT = "alert"  #: alert the operator that no agent is available


class Restart(StrEnum):
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Policy:
    ttl_us: int
    join_timeout_us: int
    #: The wait before a failed removal is retried.
    interval_us: int
    #: LiveKit shows a job that a worker took 5 s after the dispatch; this adds a margin.
    job_visible_us: int = 6 * SECOND_US
    #: The first and the longest wait before an unavailable agent is retried while people wait.
    first_wait_us: int = 1 * SECOND_US
    longest_wait_us: int = 10 * SECOND_US
    #: How long a claim or an intent may stay unfinished before any process may retry it.
    lease_us: int = 15 * SECOND_US
    #: How long a worker that holds the job is waited for, at most; see `holds_until`.
    longest_hold_us: int = 600 * SECOND_US
    restart: Restart = Restart.ON_FAILURE
    max_attempts: int = 3
    max_restarts: int = 3
    restart_window_us: int = 300 * SECOND_US
    #: The agent names whose workers take one job for each publisher, and none in a room without publishers.
    publisher_agents: frozenset[str] = frozenset()
    #: A plain agent that leaves without a word within this time of its join has failed.
    brief_us: int = 10 * SECOND_US

    def holds_until(self, dispatch: "Dispatch") -> int:
        """How long to wait for the agent of a job that a worker holds: twice as long with each attempt.

        So an agent that starts slowly gets in, and a worker that has frozen does not keep people waiting.
        """
        hold_us = self.join_timeout_us << min(dispatch.attempt, 16)
        return dispatch.created_at + min(hold_us, self.longest_hold_us)


@dataclass(frozen=True, kw_only=True)
class Briefing:
    """What LiveKit is told for the job of a dispatch. It may contain secrets: it is never logged."""

    metadata: str = field(default="", repr=False)
    #: A JSON object of strings; "" for none.
    attributes: str = field(default="", repr=False)
    #: Only workers of this deployment get the job.
    deployment: str = ""


UNTOLD = Briefing()


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    id: str
    #: LiveKit's id; None while creating and while unavailable.
    dispatch_id: str | None = None
    room_name: str
    #: The instance of the room; the dispatch ignores events of other instances.
    room_sid: str
    agent_name: str
    state: State
    created_at: int
    last_activity_at: int
    #: When LiveKit created it, by LiveKit's clock; None while unknown.
    dispatched_at: int | None = None
    #: People in the room: all participants except agents and egress.
    participant_count: int = 0
    #: None while people are in the room.
    ttl_expires_at: int | None = None
    join_deadline_at: int | None = None
    #: Creating, ending: the end of the lease. Starting: the check of the job. Idle: the retry of a failed
    #: removal. Unavailable: the next retry.
    retry_at: int | None = None
    agent_identity: str | None = None
    agent_joined_at: int | None = None
    #: 1 for a requested dispatch; counts the dispatches in a row that brought no agent.
    attempt: int = 1
    #: Restarts within the window that began at `restarts_since`.
    restarts: int = 0
    restarts_since: int | None = None
    #: The row that this one took over from; set when the service made it, so no caller waits for it.
    succeeds: str | None = None
    #: The event that made it take over; None for a requested dispatch.
    cause: str | None = None
    #: The identity of the agent of the dispatch before: it may still be leaving. One that has not joined yet
    #: connects once more when it has loaded, and leaves at once (livekit-agents 1.8.9).
    former_agent: str | None = None
    #: A successor gets the same.
    briefing: Briefing = UNTOLD
    timezone: str | None = None
    timezone_offset_min: int | None = None
    #: The process that holds the lease of a creating or ending dispatch.
    leased_by: str | None = None
    cleanup_failures: int = 0
    end_reason: EndReason | None = None
    ended_at: int | None = None
    #: Grows with every change; an inspection made at one version is not applied to another.
    version: int = 0

    @property
    def ttl_due_at(self) -> int | None:
        """When the service acts on the TTL: at its end, or later after a failed removal."""
        if self.ttl_expires_at is None or self.state is not State.IDLE:
            return self.ttl_expires_at
        return max(self.ttl_expires_at, self.retry_at or 0)

    @property
    def due_at(self) -> int | None:
        """The next deadline of its state; None if it has none."""
        match self.state:
            case State.IDLE:
                return self.ttl_due_at
            case State.STARTING:
                return _earliest(self.join_deadline_at, self.retry_at, self.ttl_expires_at)
            case State.UNAVAILABLE:
                return _earliest(self.retry_at, self.ttl_expires_at)
            case State.CREATING | State.ENDING:
                return self.retry_at
            case _:
                return None


@dataclass(frozen=True, kw_only=True)
class Signal:
    """An event with its data; None means that the event does not carry that value."""

    event: Event
    people: int | None = None
    agent_identity: str | None = None
    dispatch_id: str | None = None
    dispatched_at: int | None = None
    #: The id for a possible successor: ids are made outside, so that this package stays pure.
    successor_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    dispatch: Dispatch
    effects: tuple[Effect, ...] = ()
    successor: Dispatch | None = None


def _earliest(*times: int | None) -> int | None:
    return min((at for at in times if at is not None), default=None)
