"""The data of the state machine: dispatch, states, events, effects."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from app.lifecycle.terms import Terms


class State(StrEnum):
    CREATING = "creating"  #: the intent is stored; LiveKit has not confirmed a dispatch yet
    STARTING = "starting"  #: dispatched; the agent is not in the room yet
    ACTIVE = "active"  #: the agent and people are in the room
    IDLE = "idle"  #: the agent is alone in the room; the TTL runs
    UNAVAILABLE = "unavailable"  #: wanted, but no worker provided an agent; retried while people wait
    ON_HOLD = "on_hold"  #: a human has taken over: no agent comes until it is resumed
    ENDING = "ending"  #: claimed for removal from LiveKit
    ENDED = "ended"  #: over, with a reason


#: The database allows one row in these states for each room and agent name.
LIVE_STATES = (
    State.CREATING,
    State.STARTING,
    State.ACTIVE,
    State.IDLE,
    State.UNAVAILABLE,
    State.ON_HOLD,
)


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
    MAX_SESSION = "max_session"
    ON_HOLD = "on_hold"
    DRAINED = "drained"


class Visitors(StrEnum):
    """Who has been in the room with the agent: the TTL depends on it."""

    NONE = "none"  #: nobody has come yet
    PHONES = "phones"  #: callers by telephone only: who hangs up does not come back
    OTHERS = "others"  #: somebody who may come back


class Event(StrEnum):
    DISPATCHED = "dispatched"  #: LiveKit holds the dispatch
    NOT_DISPATCHED = "not_dispatched"  #: LiveKit rejected it, or confirmed that it does not hold it
    PEOPLE_IN = "people_in"  #: a person joined, stays, or was found in the room
    PEOPLE_OUT = "people_out"  #: the last person left
    AGENT_IN = "agent_in"  #: its agent joined
    READY = "ready"  #: its agent answers
    AGENT_LEFT = "agent_left"  #: its agent finished and left
    AGENT_HANDED_OVER = "agent_handed_over"  #: its agent left soon after it had brought somebody in
    PUBLISHER_LEFT = "publisher_left"  #: its last agent left with the publisher that it was for
    AGENT_LOST = "agent_lost"  #: its agent died, lost its network, or its worker was shut down
    ROOM_FINISHED = "room_finished"  #: LiveKit closed this instance of the room
    REUSED = "reused"  #: a caller requested an agent and this one responded
    END_REQUESTED = "end_requested"  #: a caller requested its end
    SUPERSEDED = "superseded"  #: a caller wants an agent that is told something else
    HOLD_REQUESTED = "hold_requested"  #: a human takes over
    RESUMED = "resumed"  #: a caller wants the agent back after a hold
    DRAINED = "drained"  #: its worker is being emptied: another one's agent takes over
    RELIEF_AWAITED = "relief_awaited"  #: the agent that takes over does not answer yet
    RELIEF_FAILED = "relief_failed"  #: the agent that was to take over did not come
    RELIEVED = "relieved"  #: another agent has taken over, or none is wanted any more
    POLICY_CHANGED = "policy_changed"  #: the policy file has new terms for what is running
    REFUTED = "refuted"  #: its agent does not respond: it is frozen, or its session is closed
    MISSING = "missing"  #: LiveKit does not list it
    DUPLICATE = "duplicate"  #: another dispatch of that agent name in that room is better
    UNTAKEN = "untaken"  #: LiveKit shows no job for it although it should: no worker took the job
    HELD = "held"  #: the join deadline passed, but a worker still holds the job
    JOIN_OVERDUE = "join_overdue"  #: the join deadline passed without an agent
    TTL_EXPIRED = "ttl_expired"  #: the TTL expired with no person in the room
    WARNING_DUE = "warning_due"  #: its longest session ends soon: its agent is to be told
    WARNED = "warned"  #: its agent was told, or cannot be told
    SESSION_OVER = "session_over"  #: its longest session has passed
    RETRY_DUE = "retry_due"  #: time to retry what failed or what a crash interrupted
    OCCUPIED = "occupied"  #: LiveKit reported people in the room before the deletion
    REMOVED = "removed"  #: dispatch and agent are gone from LiveKit
    REMOVE_FAILED = "remove_failed"  #: LiveKit was not reachable, or rejected the removal


class Effect(StrEnum):
    CREATE = "create"  #: create the dispatch in LiveKit, or find it there
    REMOVE = "remove"  #: delete the dispatch from LiveKit and remove its agent
    EXPIRE = "expire"  #: the same, but only after LiveKit confirms that no person is in the room
    CHECK = "check"  #: a person joined an agent whose session may be closed: probe it
    CHECK_READY = "check_ready"  #: the agent has joined: find out when it answers
    CHECK_JOB = "check_job"  #: no agent is in the room yet: check whether a worker took the job
    WARN = "warn"  #: tell the agent that its session ends soon
    ALERT = "alert"  #: alert the operator that no agent is available


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
    #: None: of a version before there were any; the policy of today counts.
    terms: Terms | None = None
    visitors: Visitors = Visitors.NONE
    #: When the last person left; None while people are in, and before anybody has come.
    vacated_at: int | None = None
    #: When its agent was first seen to answer; None: not yet.
    ready_at: int | None = None
    #: The end of its longest session, also with people in; None: no limit, or no agent has joined yet.
    session_ends_at: int | None = None
    #: When its agent is to be told of that end; None: it was told, or is not to be.
    warn_at: int | None = None
    #: Until when its time is in the usage ledger.
    accounted_at: int | None = None
    #: A pseudonym of the participant who asked for it; None: a backend did, or another program.
    requested_by: str | None = None
    #: Where the job of its agent is, if it has claimed a warm one; None: in its own room.
    holding_room: str | None = None
    #: The process that holds the lease of a creating or ending dispatch.
    leased_by: str | None = None
    cleanup_failures: int = 0
    end_reason: EndReason | None = None
    ended_at: int | None = None
    #: Grows with every change; an inspection made at one version is not applied to another.
    version: int = 0

    @property
    def job_room_name(self) -> str:
        """The room in which LiveKit has the dispatch; its agent, like people, is in `room_name`."""
        return self.holding_room or self.room_name

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
            case State.ACTIVE:
                return _earliest(self.session_ends_at, self.warn_at)
            case State.IDLE:
                return _earliest(self.ttl_due_at, self.session_ends_at, self.warn_at)
            case State.STARTING:
                return _earliest(
                    self.join_deadline_at, self.retry_at, self.ttl_expires_at, self.session_ends_at
                )
            case State.UNAVAILABLE:
                return _earliest(self.retry_at, self.ttl_expires_at, self.session_ends_at)
            case State.CREATING:
                return _earliest(self.retry_at, self.session_ends_at)
            case State.ENDING:
                return self.retry_at
            case _:
                return None

    def ends_soon(self, now: int) -> bool:
        """Whether its session is in the time for which its agent is warned."""
        warn_before_us = self.terms.warn_before_us if self.terms else 0
        return self.session_ends_at is not None and now >= self.session_ends_at - warn_before_us


@dataclass(frozen=True, kw_only=True)
class Signal:
    """An event with its data; None means that the event does not carry that value."""

    event: Event
    people: int | None = None
    #: How many of them call by telephone.
    phones: int | None = None
    agent_identity: str | None = None
    dispatch_id: str | None = None
    dispatched_at: int | None = None
    #: For POLICY_CHANGED.
    terms: Terms | None = None
    #: For RESUMED and DRAINED: what the next agent is told; None: the same as the one before.
    briefing: Briefing | None = None
    #: Of a call: the attributes of the agent that it gets in place of this one; None: the same as before.
    attributes: str | None = None
    #: The id for a possible successor: ids are made outside, so that this package stays pure.
    successor_id: str = ""

    def told(self, briefing: Briefing) -> Briefing:
        """What the next agent is told in place of one with this briefing, as far as a call changes it."""
        return briefing if self.attributes is None else replace(briefing, attributes=self.attributes)


@dataclass(frozen=True, kw_only=True)
class Decision:
    dispatch: Dispatch
    effects: tuple[Effect, ...] = ()
    successor: Dispatch | None = None


def _earliest(*times: int | None) -> int | None:
    return min((at for at in times if at is not None), default=None)
