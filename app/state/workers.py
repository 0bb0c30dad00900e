"""Workers, as they report themselves: what each runs, and how many jobs it can still take."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from app.lifecycle import SECOND_US, State

#: How often a worker reports.
REPORT_INTERVAL_S = 1.5
_INTERVAL_US = int(REPORT_INTERVAL_S * SECOND_US)
#: A worker whose report is late by this much may be dead: its agents are probed.
SUSPECT_AFTER_US = _INTERVAL_US + SECOND_US
#: After three reports that did not come a worker is gone.
GONE_AFTER_US = 3 * _INTERVAL_US + SECOND_US
#: An agent that no worker has reported by then belongs to a worker that reports nothing.
UNREPORTED_AFTER_US = 5 * SECOND_US


class Job(NamedTuple):
    dispatch_id: str
    room_name: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker process says about itself."""

    #: Of the process; LiveKit's own changes with each registration.
    id: str
    livekit_id: str
    #: Grows with each report: a late one changes nothing.
    number: int
    agent_names: tuple[str, ...]
    deployment: str
    version: str
    #: The version of the helper.
    helper: str
    #: How many jobs it takes at once; None: it does not say.
    slots: int | None
    #: At most as many as `MAX_JOBS`; `active` counts all.
    jobs: tuple[Job, ...]
    active: int
    #: Those of them in rooms where an agent waits for a call.
    warm: int
    load: float
    accepting: bool
    draining: bool
    #: Whether it is the last one.
    leaving: bool = False


class WorkerState(StrEnum):
    ACCEPTING = "accepting"  #: it takes jobs
    FULL = "full"  #: it takes none for now
    DRAINING = "draining"  #: it takes none any more
    MISSING = "missing"  #: its last report is late


@dataclass(frozen=True, kw_only=True)
class Worker(Report):
    """A worker as it is stored."""

    first_seen_at: int
    seen_at: int
    left_at: int | None

    @property
    def dispatch_ids(self) -> frozenset[str]:
        return frozenset(job.dispatch_id for job in self.jobs)

    @property
    def state(self) -> WorkerState:
        """Without regard to how old the report is."""
        if self.draining:
            return WorkerState.DRAINING
        is_full = self.slots is not None and self.active >= self.slots
        return WorkerState.ACCEPTING if self.accepting and not is_full else WorkerState.FULL

    @property
    def free(self) -> int | None:
        """How many jobs it would take more; None: it does not say."""
        if self.state is not WorkerState.ACCEPTING:
            return 0
        return None if self.slots is None else self.slots - self.active


@dataclass(frozen=True, kw_only=True)
class AgentFleet:
    """The workers of one agent name, in figures."""

    agent_name: str
    #: The number of workers by state, with 0 for every other state.
    workers: Mapping[WorkerState, int]
    #: The jobs of all.
    active: int
    #: Of those that are not drained or missing; None: one of them does not say how many jobs it takes.
    slots: int | None
    free: int | None
    #: How many workers have slots for all jobs, for what waits, and spare ones; None: not known.
    desired: int | None

    @property
    def known(self) -> int:
        return sum(self.workers.values())


def figures_of(
    agent_name: str, workers: Sequence[tuple[Worker, WorkerState]], waiting: int, spare_slots: int
) -> AgentFleet:
    """`waiting`: calls and dispatches without a job."""
    steady = [one for one, state in workers if state in (WorkerState.ACCEPTING, WorkerState.FULL)]
    sizes = [one.slots for one in steady if one.slots is not None]
    is_sized = bool(sizes) and len(sizes) == len(steady)
    wanted = sum(one.active for one in steady) + waiting + spare_slots
    return AgentFleet(
        agent_name=agent_name,
        workers={state: sum(one is state for _, one in workers) for state in WorkerState},
        active=sum(one.active for one, _ in workers),
        slots=sum(sizes) if is_sized else None,
        free=sum(one.free or 0 for one in steady) if is_sized else None,
        desired=math.ceil(wanted * len(sizes) / sum(sizes)) if is_sized else None,
    )


def dispatches_of(workers: Iterable[Worker]) -> frozenset[str]:
    """The ids of the dispatches of all their jobs."""
    return frozenset[str]().union(*(worker.dispatch_ids for worker in workers))


class DrainOf(StrEnum):
    WORKER = "worker"
    DEPLOYMENT = "deployment"


@dataclass(frozen=True, kw_only=True)
class Drain:
    """An order that stands until it is cancelled."""

    of: DrainOf
    #: The id of the worker, or the name of the deployment.
    name: str
    requested_at: int

    def covers(self, worker: Worker) -> bool:
        """Whether the worker is to take no more jobs.

        Workers without a deployment are those that run at the time: their successors have no other name.
        """
        if self.of is DrainOf.WORKER:
            return worker.id == self.name
        is_of_then = bool(self.name) or worker.first_seen_at <= self.requested_at
        return worker.deployment == self.name and is_of_then


class Age(StrEnum):
    """Of a worker's last report."""

    FRESH = "fresh"
    UNSURE = "unsure"  #: it was there when this process began to look, and none has come since
    LATE = "late"  #: the worker may be dead
    GONE = "gone"  #: it has missed three, or has left


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The workers that may take the job of a request."""

    agent_name: str
    deployments: tuple[str, ...]
    age_of: Callable[[Worker], Age]
    #: Whether an operator has ordered it; the worker itself may not have heard of it yet.
    is_drained: Callable[[Worker], bool]


class Need(NamedTuple):
    """A dispatch that has not ended, as far as the slots of workers are concerned."""

    dispatch_id: str | None
    room_name: str
    state: str
    deployment: str
    participant_count: int
    agent_joined_at: int | None


def free_slots(pool: Pool, workers: Iterable[Worker], needs: Collection[Need], now: int) -> int | None:
    """How many more jobs the pool's workers take; None: it is not known, or not limited.

    `needs`: the dispatches of the agent name.
    It is known only if every worker of the pool reports: an agent that none has reported proves another one.
    """
    named = (one for one in workers if pool.agent_name in one.agent_names)
    own = [one for one in named if one.deployment in pool.deployments]
    present = [one for one in own if pool.age_of(one) is not Age.GONE]
    if not present or any(pool.age_of(one) is not Age.FRESH for one in present):
        return None
    reported = frozenset().union(*(one.dispatch_ids for one in own))
    unreported = [one for one in needs if _needs_slot(one, pool) and one.dispatch_id not in reported]
    free = 0
    for worker in present:
        if pool.is_drained(worker):
            continue
        if worker.free is None or len(worker.jobs) < worker.active:
            return None
        free += worker.free
    if any(_has_stranger(one, now) for one in unreported):
        return None
    # Their jobs came since the reports, or are still to come.
    return max(0, free - len(unreported))


def _needs_slot(need: Need, pool: Pool) -> bool:
    waits = need.state == State.UNAVAILABLE and need.participant_count > 0
    has_job = need.state in (State.CREATING, State.STARTING, State.ACTIVE, State.IDLE)
    return (waits or has_job) and need.deployment in pool.deployments


def _has_stranger(need: Need, now: int) -> bool:
    """Whether its agent has been in for so long that its worker would have reported it."""
    is_in = need.state in (State.ACTIVE, State.IDLE) and need.agent_joined_at is not None
    return is_in and now - (need.agent_joined_at or 0) >= UNREPORTED_AFTER_US
