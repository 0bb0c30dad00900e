"""What the fake LiveKit holds: rooms, who is in them, and their dispatches."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from app.lifecycle import UNTOLD, Briefing
from app.state.presence import ParticipantKind


class Process(StrEnum):
    RUNNING = auto()
    FROZEN = auto()  #: SIGSTOP
    KILLED = auto()  #: SIGKILL


@dataclass(eq=False, kw_only=True)
class FakeWorker:
    """A worker process: where its jobs go, and what becomes of their agents with it."""

    agent_name: str
    #: Whether its agents use `reusable_agent`, so that they answer the probe and stay open.
    helper: bool
    joins_after_s: float
    #: Whether that helper is one that can wait in a holding room.
    can_wait: bool = True
    #: Its LIVEKIT_AGENT_DEPLOYMENT: it gets the dispatches for that one only.
    deployment: str = ""
    #: From its agents' joins until their sessions have started.
    starts_after_s: float = 0
    #: Whether its agents have an AgentSession, which publishes that it has started.
    has_sessions: bool = True
    #: Whether its agents have a memory that outlives them.
    remembers: bool = False
    #: Whether its dispatches have a job for each publisher, and none without one.
    for_publishers: bool = False
    process: Process = Process.RUNNING
    draining: bool = False

    @property
    def takes_jobs(self) -> bool:
        # A frozen one is still registered, is given jobs, and does nothing about them.
        return self.process is not Process.KILLED and not self.draining


@dataclass(eq=False, kw_only=True)
class FakeParticipant:
    sid: str
    identity: str
    joined_at: int
    kind: ParticipantKind = ParticipantKind.PERSON
    #: LiveKit's kind SIP.
    is_phone: bool = False
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class FakeAgent(FakeParticipant):
    kind: ParticipantKind = ParticipantKind.AGENT
    agent_name: str
    worker: FakeWorker
    session_open: bool = True
    #: Whether a question can reach it: not in the first moment after its join.
    connected: bool = True
    #: Whether its session has started.
    has_started: bool = True
    #: The only one a default session hears: the first person it met.
    linked: str | None = None
    #: Whether it waits in a holding room, and the id of the claim that has ended this.
    waits: bool = False
    claim: str | None = None
    #: What the claim said with which it came here; None: it was dispatched here.
    told: dict[str, Any] | None = None
    #: The warnings that it has got, as sent.
    warnings: list[str] = field(default_factory=list)

    @property
    def is_held(self) -> bool:
        """Whether this is its place in a holding room, where it answers nobody."""
        return self.waits or self.claim is not None

    @property
    def reacts(self) -> bool:
        return self.worker.process is Process.RUNNING

    def answers(self, identity: str) -> bool:
        """Whether this person, saying something, would be answered."""
        heard = self.worker.helper or self.linked in (None, identity)
        return self.reacts and self.has_started and self.session_open and heard


@dataclass(eq=False, kw_only=True)
class FakeDispatch:
    id: str
    agent_name: str
    created_at: int
    row_id: str | None
    briefing: Briefing = UNTOLD
    #: The identity of the agent from which its agent takes over.
    relieves: str | None = None
    job_shown_at: int
    #: The identity of the agent of its one job; None without a worker.
    job: str | None = None
    #: Takes a job for each publisher; None: the dispatch has one job.
    publisher_worker: FakeWorker | None = None
    #: Of further jobs, for publishers.
    further_jobs: list[str] = field(default_factory=list)
    #: When the job was ended; None: it was not.
    job_ended_at: int | None = None

    @property
    def jobs(self) -> tuple[str, ...]:
        return (*([self.job] if self.job else []), *self.further_jobs)


@dataclass(eq=False, kw_only=True)
class FakeRoom:
    name: str
    sid: str
    created_at: int
    empty_timeout_s: int
    departure_timeout_s: int
    participants: dict[str, FakeParticipant] = field(default_factory=dict)
    dispatches: dict[str, FakeDispatch] = field(default_factory=dict)
    #: Agents that have left and are listed still; see `FakeServer.keeps_ghosts`.
    ghosts: dict[str, FakeParticipant] = field(default_factory=dict)
    #: Grows with every coming of a person, so that a closing planned before it is called off.
    comings: int = 0

    @property
    def people(self) -> list[FakeParticipant]:
        return [one for one in self.participants.values() if one.kind is ParticipantKind.PERSON]

    @property
    def agents(self) -> list[FakeAgent]:
        return [one for one in self.participants.values() if isinstance(one, FakeAgent)]
