"""A dispatch, the states it can be in, what can happen to it, and what has to be done about it."""

from dataclasses import dataclass
from enum import StrEnum

SECOND_US = 1_000_000


class State(StrEnum):
    CREATING = "creating"  #: the intent is stored; LiveKit has not confirmed a dispatch yet
    STARTING = "starting"  #: dispatched; the agent is not in the room yet
    ACTIVE = "active"  #: the agent is in, and so are people
    IDLE = "idle"  #: the agent is in, nobody else is; the TTL runs
    UNAVAILABLE = "unavailable"  #: wanted, but no worker brought an agent; tried again while people wait
    ENDING = "ending"  #: claimed for removal from LiveKit
    ENDED = "ended"  #: over, with a reason


#: The states in which a dispatch is the one of its room and agent name; the database allows one such row.
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
    NOT_DISPATCHED = "not_dispatched"  #: LiveKit refused it, or confirmed that it does not hold it
    PEOPLE_IN = "people_in"  #: somebody came, stays, or was found in the room
    PEOPLE_OUT = "people_out"  #: the last person left
    AGENT_IN = "agent_in"  #: its agent joined
    AGENT_LEFT = "agent_left"  #: its agent left because it had finished
    AGENT_LOST = "agent_lost"  #: its agent died, lost its network, or its worker was shut down
    ROOM_FINISHED = "room_finished"  #: LiveKit closed this instance of the room
    REUSED = "reused"  #: a caller asked for an agent and this one was proven good
    END_REQUESTED = "end_requested"  #: a caller asked for its end
    REFUTED = "refuted"  #: its agent is in, but does not answer: frozen, or its session is closed
    MISSING = "missing"  #: LiveKit was asked and does not list it
    DUPLICATE = "duplicate"  #: another dispatch of that name in that room is better
    UNTAKEN = "untaken"  #: LiveKit shows no job for it when it should: no worker took it
    JOIN_OVERDUE = "join_overdue"  #: the join deadline passed without an agent
    TTL_EXPIRED = "ttl_expired"  #: the TTL passed with nobody in
    RETRY_DUE = "retry_due"  #: it is time to try again what failed, or what a crash interrupted
    OCCUPIED = "occupied"  #: LiveKit, asked before the deletion, found people in
    REMOVED = "removed"  #: dispatch and agent are gone from LiveKit
    REMOVE_FAILED = "remove_failed"  #: LiveKit could not be asked, or refused


class Effect(StrEnum):
    CREATE = "create"  #: make the dispatch in LiveKit, or find it there
    REMOVE = "remove"  #: delete it from LiveKit and take its agent out
    EXPIRE = "expire"  #: the same, but only after LiveKit says that nobody is in
    CHECK = "check"  #: somebody came to an agent that may have gone deaf: find out
    CHECK_JOB = "check_job"  #: no agent is in yet: find out whether a worker has taken the job at all
    ALERT = "alert"  #: tell the operator that no agent can be had


class Restart(StrEnum):
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Policy:
    ttl_us: int
    join_timeout_us: int
    #: How long until a failed removal is tried again.
    interval_us: int
    #: When LiveKit shows a job that a worker has taken: 5 s after the dispatch, with some margin.
    job_visible_us: int = 6 * SECOND_US
    #: How long until an unavailable agent is tried again while people wait: from the first to the longest.
    first_wait_us: int = 1 * SECOND_US
    longest_wait_us: int = 10 * SECOND_US
    #: How long a claim or an intent may stay unfinished before anyone may take it up again.
    lease_us: int = 15 * SECOND_US
    restart: Restart = Restart.ON_FAILURE
    max_attempts: int = 3
    max_restarts: int = 3
    restart_window_us: int = 300 * SECOND_US


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    id: str
    #: LiveKit's id; None while creating and while unavailable.
    dispatch_id: str | None = None
    room_name: str
    #: The instance of the room; events of another instance are not for this dispatch.
    room_sid: str
    agent_name: str
    state: State
    created_at: int
    last_activity_at: int
    #: When LiveKit made it, by LiveKit's clock; None while that is not known.
    dispatched_at: int | None = None
    #: People in the room: everyone but agents and egress.
    participant_count: int = 0
    #: None while people are in.
    ttl_expires_at: int | None = None
    join_deadline_at: int | None = None
    #: Creating, ending: the end of the lease. Starting: the look at the job. Idle: the next try of a
    #: removal that failed. Unavailable: the next try.
    retry_at: int | None = None
    agent_identity: str | None = None
    agent_joined_at: int | None = None
    #: 1 for the first dispatch that was asked for; counts the dispatches in a row that brought no agent.
    attempt: int = 1
    #: Restarts within the window that began at `restarts_since`.
    restarts: int = 0
    restarts_since: int | None = None
    #: Whether the service itself wanted this dispatch, so that no caller waits for its outcome.
    succeeds: str | None = None
    timezone: str | None = None
    timezone_offset_min: int | None = None
    #: The process that has the lease of a creating or ending dispatch.
    leased_by: str | None = None
    cleanup_failures: int = 0
    end_reason: EndReason | None = None
    ended_at: int | None = None
    #: Grows with every change; evidence gathered at one version is not applied to another.
    version: int = 0

    @property
    def ttl_due_at(self) -> int | None:
        """When the TTL is acted on: at its end, or later when a removal has failed."""
        if self.ttl_expires_at is None or self.state is not State.IDLE:
            return self.ttl_expires_at
        return max(self.ttl_expires_at, self.retry_at or 0)

    @property
    def due_at(self) -> int | None:
        """When something has to be done about it without any event; None when nothing has."""
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
    """An event with what it brings along; None means that it says nothing about it."""

    event: Event
    people: int | None = None
    agent_identity: str | None = None
    dispatch_id: str | None = None
    dispatched_at: int | None = None
    #: The id for a successor, should there be one: ids are made outside, so that this stays pure.
    successor_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    dispatch: Dispatch
    effects: tuple[Effect, ...] = ()
    successor: Dispatch | None = None


def _earliest(*times: int | None) -> int | None:
    return min((at for at in times if at is not None), default=None)
