"""The fleet: the workers that report themselves, as the database has them, and how old each report is.

The age of a report is the time since this process first saw it: the clocks of replicas differ. After a
start, and after a time in which the workers could not be read, each worker has its whole time anew: the
service's own absence makes nobody suspicious.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from app.clock import Clock
from app.control.policies import Policies
from app.database.workers import WorkersTable
from app.errors import ServiceError
from app.lifecycle import SECOND_US, Dispatch
from app.state.workers import (
    GONE_AFTER_US,
    SUSPECT_AFTER_US,
    Age,
    AgentFleet,
    Drain,
    DrainOf,
    Pool,
    Report,
    Worker,
    WorkerState,
    dispatches_of,
    figures_of,
)

logger = logging.getLogger(__name__)

#: A read that comes so late may have missed reports that came in time.
_GAP_US = 2 * SECOND_US
#: How long a deployment that is drained is passed over, after the last time that was read.
_CLOSED_US = 60 * SECOND_US
#: A call is let through to a full fleet so often: a worker without the helper that has had no agent yet would
#: take it, and is known by its agent from then on.
_TRIAL_US = 60 * SECOND_US
#: With so many free slots nothing is counted for a call: more do not come within two reports.
_AMPLE = 64


class _Heard(NamedTuple):
    number: int
    at: int
    #: Whether it has come while this process was looking.
    is_news: bool


class Fleet:
    def __init__(
        self, table: WorkersTable, policies: Policies, clock: Clock, *, admits: bool, spare_slots: int
    ) -> None:
        """`admits`: whether calls beyond the slots are refused. `spare_slots`: for an autoscaler."""
        self._spare_slots = spare_slots
        self._table = table
        self._policies = policies
        self._clock = clock
        self._admits = admits
        self._workers: Sequence[Worker] = ()
        self._drains: Sequence[Drain] = ()
        #: Of the last report of each worker.
        self._heard: dict[str, _Heard] = {}
        #: The last reports after which one was late, as far as this process has noted them.
        self._suspects: dict[str, int] = {}
        self._read_at: int | None = None
        #: Since when, or since the last trial, calls are refused because all workers are full.
        self._refusing_since: dict[str, int] = {}
        self._demand: Sequence[tuple[str, str | None]] = ()
        self._turn = asyncio.Lock()

    @property
    def is_read(self) -> bool:
        return self._read_at is not None

    @property
    def workers(self) -> Sequence[Worker]:
        """Those that are not gone."""
        return [worker for worker in self._workers if self.age_of(worker) is not Age.GONE]

    @property
    def all_workers(self) -> Sequence[Worker]:
        """Those that are gone too, as long as they are stored."""
        return self._workers

    @property
    def drains(self) -> Sequence[Drain]:
        return self._drains

    async def refresh(self) -> None:
        """Read the workers; raises DatabaseUnavailable."""
        async with self._turn:
            workers, drains = await self._table.all()
            now = self._clock.now()
            if self._read_at is None or now - self._read_at > _GAP_US:
                self._heard = {}
            self._read_at = now
            self._workers, self._drains = workers, drains
            self._heard = {worker.id: self._hear(worker, now) for worker in workers}
            self._suspects = {one.id: self._suspects[one.id] for one in workers if one.id in self._suspects}
        closed = {drain.name: now + _CLOSED_US for drain in drains if drain.of is DrainOf.DEPLOYMENT}
        self._policies.close_deployments(closed)

    def _hear(self, worker: Worker, now: int) -> "_Heard":
        before = self._heard.get(worker.id)
        if before and before.number >= worker.number:
            return before
        return _Heard(number=worker.number, at=now, is_news=before is not None)

    def is_new_suspect(self, worker: Worker) -> bool:
        """Whether this is the first time that the report after this one is missed here."""
        if self._suspects.get(worker.id, -1) >= worker.number:
            return False
        self._suspects[worker.id] = worker.number
        return True

    async def refresh_demand(self) -> None:
        """Read what waits for a slot; raises DatabaseUnavailable."""
        self._demand = await self._table.demand()

    def note(self, report: Report) -> None:
        """Note a report that this process has stored."""
        before = self._heard.get(report.id)
        if before is None or report.number > before.number:
            self._heard[report.id] = _Heard(number=report.number, at=self._clock.now(), is_news=True)

    def forgive(self) -> None:
        """Give every worker its whole time anew: reports could not be stored."""
        now = self._clock.now()
        self._heard = {id_: heard._replace(at=now) for id_, heard in self._heard.items()}

    def age_of(self, worker: Worker) -> Age:
        if worker.left_at is not None:
            return Age.GONE
        heard = self._heard.get(worker.id)
        if heard is None or heard.number < worker.number:
            return Age.FRESH
        age_us = self._clock.now() - heard.at
        if age_us >= GONE_AFTER_US:
            return Age.GONE
        if age_us >= SUSPECT_AFTER_US:
            return Age.LATE
        return Age.FRESH if heard.is_news else Age.UNSURE

    def state_of(self, worker: Worker) -> WorkerState:
        if self.age_of(worker) in (Age.LATE, Age.GONE):
            return WorkerState.MISSING
        return WorkerState.DRAINING if self.is_drained(worker) else worker.state

    def states(self) -> list[tuple[Worker, WorkerState]]:
        """The workers that are not gone."""
        return [(worker, self.state_of(worker)) for worker in self.workers]

    def figures(self) -> list[AgentFleet]:
        """Of each agent name with workers that report themselves."""
        present = self.states()
        reported = dispatches_of(worker for worker, _ in present)
        waiting = Counter(name for name, dispatch_id in self._demand if dispatch_id not in reported)
        found = []
        for name in self._policies.agents:
            own = [(worker, state) for worker, state in present if name in worker.agent_names]
            if own:
                found.append(figures_of(name, own, waiting[name], self._spare_slots))
        return found

    def is_drained(self, worker: Worker) -> bool:
        """Whether an operator has ordered it."""
        return any(drain.covers(worker) for drain in self._drains)

    async def must_drain(self, worker_id: str) -> bool:
        """Whether the worker is to take no more jobs; False as long as that cannot be read."""
        worker = self._find(worker_id)
        if worker is None:
            with suppress(ServiceError):
                await self.refresh()
            worker = self._find(worker_id)
        return worker is not None and self.is_drained(worker)

    def _find(self, worker_id: str) -> Worker | None:
        return next((worker for worker in self._workers if worker.id == worker_id), None)

    def draining_dispatches(self) -> frozenset[str]:
        """The ids of the dispatches on workers that are to stop."""
        return dispatches_of(filter(self.is_to_stop, self.workers))

    def doubtful_dispatches(self) -> frozenset[str]:
        """The ids of the dispatches on workers that may be dead, or are to stop."""
        return dispatches_of(
            worker
            for worker in self.all_workers
            if self.age_of(worker) in (Age.LATE, Age.GONE) or self.is_to_stop(worker)
        )

    def is_to_stop(self, worker: Worker) -> bool:
        """Whether it drains by an order, or on its own: at a SIGTERM, as in a redeploy."""
        return worker.draining or self.is_drained(worker)

    def deployment_for(self, dispatch: Dispatch, taken: Mapping[tuple[str, str], int]) -> str | None:
        """The deployment of a worker that would take the dispatch; None if none is known.

        Its own first, then those to which its policy gives a share. `taken`: how many free slots are spoken
        for, by agent name and deployment.
        """
        terms = self._policies.lifecycle.terms_of(dispatch)
        listed = (dispatch.briefing.deployment, *(terms.deployments or ()))
        free: Counter[str] = Counter()
        for worker in self.workers:
            if self._takes(worker, dispatch.agent_name):
                free[worker.deployment] += _AMPLE if worker.free is None else worker.free
        name = dispatch.agent_name
        return next((one for one in listed if free[one] > taken.get((name, one), 0)), None)

    def _takes(self, worker: Worker, agent_name: str) -> bool:
        is_known = agent_name in worker.agent_names and self.age_of(worker) is Age.FRESH
        return is_known and self.state_of(worker) is WorkerState.ACCEPTING

    def pool(self, agent_name: str, deployment: str = "") -> Pool | None:
        """The workers that a request for the agent is for; None: it is not limited by them.

        `deployment`: that the request itself names.
        """
        policy = self._policies.lifecycle
        if not self._admits or agent_name in policy.publisher_agents:
            return None
        shares = policy.shares.get(agent_name, ())
        listed = tuple(share.deployment for share in shares) or ("",)
        if deployment and deployment not in listed:
            return None
        named = (worker for worker in self.workers if agent_name in worker.agent_names)
        own = [worker for worker in named if worker.deployment in listed]
        if not own or sum(_AMPLE if one.free is None else one.free for one in own) >= _AMPLE:
            return None
        return Pool(agent_name=agent_name, deployments=listed, age_of=self.age_of, is_drained=self.is_drained)

    def may_try(self, agent_name: str) -> bool:
        """Whether a call is let through although all known workers are full."""
        now = self._clock.now()
        since = self._refusing_since.setdefault(agent_name, now)
        if now - since < _TRIAL_US:
            return False
        self._refusing_since[agent_name] = now
        return True

    def note_room(self, agent_name: str) -> None:
        """Note that a call was not refused for want of workers."""
        self._refusing_since.pop(agent_name, None)
