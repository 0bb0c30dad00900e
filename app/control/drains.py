"""Drains: empties the workers that operators want to replace, without taking an agent from anybody."""

import logging
from collections import Counter
from typing import NamedTuple

from app.clock import Clock
from app.control.fleet import Fleet
from app.control.relief import Cause, Relief, Reliever
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import SECOND_US, Dispatch, State, Visitors
from app.lifecycle.mode import Mode
from app.state.workers import Worker

logger = logging.getLogger(__name__)

#: What was not possible, or has failed, is tried again after this time.
_AGAIN_US = 10 * SECOND_US
#: What needs no explanation.
_LEAVES = (Relief.ENDED, Relief.UNDER_WAY, Relief.CHANGED)
#: A page that is reloaded is back by then.
_RELOADED_US = 3 * SECOND_US
#: Whoever an agent was requested for has joined by then.
_COME_US = 30 * SECOND_US


class _Try(NamedTuple):
    """What was tried for one agent."""

    at: int
    #: What the dispatch was then.
    state: State
    #: None: it has failed, or is under way.
    relief: Relief | None
    #: The agent name and deployment of the slot that its relief is about to take.
    place: tuple[str, str] | None = None


class Drains:
    """A worker that is drained takes no jobs (its helper sees to that); here its agents end.

    Those with people in are relieved by agents of other workers, where that is possible; the others go on.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        reliever: Reliever,
        clock: Clock,
        *,
        mode: Mode,
    ) -> None:
        self._mode = mode
        self._store = store
        self._fleet = fleet
        self._reliever = reliever
        self._clock = clock
        self._is_under_way = False
        #: The last one for each row.
        self._tries: dict[str, _Try] = {}

    @property
    def has_work(self) -> bool:
        # A mode that only watches ends no agent.
        if self._is_under_way or not self._mode.keeps_one:
            return False
        return any(map(self._is_to_empty, self._fleet.workers))

    async def step(self) -> None:
        """End the agents that nobody needs on drained workers; call it again and again."""
        if self._is_under_way:
            return
        self._is_under_way = True
        try:
            async with self._store.exclusive("drains") as alone:
                for worker in filter(self._is_to_empty, self._fleet.workers if alone else ()):
                    await self._empty(worker)
                self._forget_old_tries()
        except ServiceError as error:
            logger.warning(
                "Drained workers could not be emptied; the next round retries",
                extra={"action": "drain", "code": error.code},
            )
        finally:
            self._is_under_way = False

    def _forget_old_tries(self) -> None:
        since = self._clock.now() - 2 * _AGAIN_US
        self._tries = {row_id: one for row_id, one in self._tries.items() if one.at > since}

    def _is_to_empty(self, worker: Worker) -> bool:
        return bool(worker.jobs) and self._fleet.is_to_stop(worker)

    async def _empty(self, worker: Worker) -> None:
        """Do what can be done now for the dispatches of one worker."""
        for dispatch in await self._store.workers.dispatches(worker.dispatch_ids):
            if self._is_due(dispatch):
                await self._try(dispatch, Cause.ORDER if self._fleet.is_drained(worker) else Cause.SIGNAL)

    async def _try(self, dispatch: Dispatch, cause: Cause) -> None:
        now, former = self._clock.now(), self._tries.get(dispatch.id)
        deployment = self._fleet.deployment_for(dispatch, self._taken(now))
        # Noted before: one that fails is not tried again at once.
        self._tries[dispatch.id] = _Try(now, dispatch.state, former.relief if former else None)
        relief = await self._reliever.relieve(dispatch.id, deployment, cause)
        is_under_way = relief is Relief.UNDER_WAY and deployment is not None
        place = (dispatch.agent_name, deployment or "") if is_under_way else None
        self._tries[dispatch.id] = _Try(now, dispatch.state, relief, place)
        if relief not in _LEAVES and (former is None or former.relief is not relief):
            _log_stay(dispatch, relief)

    def _taken(self, now: int) -> Counter[tuple[str, str]]:
        """How many slots are about to be taken by agents on their way: no report has them yet."""
        return Counter(one.place for one in self._tries.values() if one.place and now - one.at < _AGAIN_US)

    def _is_due(self, dispatch: Dispatch) -> bool:
        now = self._clock.now()
        former = self._tries.get(dispatch.id)
        # Once its people have left, it does not matter that it had to stay for them.
        if former and former.state is dispatch.state and now - former.at < _AGAIN_US:
            return False
        if dispatch.state is State.ACTIVE:
            return True
        if dispatch.state is not State.IDLE or (dispatch.retry_at or 0) > now:
            return False
        patience_us = _COME_US if dispatch.visitors is Visitors.NONE else _RELOADED_US
        return now - dispatch.last_activity_at >= patience_us


def _log_stay(dispatch: Dispatch, relief: Relief) -> None:
    """Log why an agent stays; once as long as the reason is the same."""
    logger.info(
        "An agent stays on a worker that is emptied; it is tried again every 10 s",
        extra={
            "action": "relief",
            "dispatch_id": dispatch.dispatch_id,
            "room": dispatch.room_name,
            "agent": dispatch.agent_name,
            "reason": relief,
        },
    )
