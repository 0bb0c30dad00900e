"""Drains: empties the workers that operators want to replace, without taking an agent from anybody."""

import logging
from collections import Counter

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
        #: When each row was last looked at more closely.
        self._tried_at: dict[str, int] = {}
        #: The agent name and deployment of the slot that each of those has found.
        self._places: dict[str, tuple[str, str]] = {}
        #: Why each of those stays.
        self._kept: dict[str, Relief] = {}

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
        self._tried_at = {row_id: at for row_id, at in self._tried_at.items() if at > since}
        self._places = {row_id: place for row_id, place in self._places.items() if row_id in self._tried_at}
        self._kept = {row_id: why for row_id, why in self._kept.items() if row_id in self._tried_at}

    def _is_to_empty(self, worker: Worker) -> bool:
        return bool(worker.jobs) and self._fleet.is_to_stop(worker)

    async def _empty(self, worker: Worker) -> None:
        """Do what can be done now for the dispatches of one worker."""
        for dispatch in await self._store.workers.dispatches(worker.dispatch_ids):
            if self._is_due(dispatch):
                self._tried_at[dispatch.id] = self._clock.now()
                cause = Cause.ORDER if self._fleet.is_drained(worker) else Cause.SIGNAL
                deployment = self._fleet.deployment_for(dispatch, self._taken())
                relief = await self._reliever.relieve(dispatch.id, deployment, cause)
                if relief is Relief.UNDER_WAY and deployment is not None:
                    self._places[dispatch.id] = (dispatch.agent_name, deployment)
                self._note(dispatch, relief)

    def _taken(self) -> Counter[tuple[str, str]]:
        """How many slots the agents are about to take that are on their way: no report has them yet."""
        return Counter(place for row_id, place in self._places.items() if row_id in self._tried_at)

    def _note(self, dispatch: Dispatch, relief: Relief) -> None:
        """Log why an agent stays, once for each reason."""
        if relief in _LEAVES or self._kept.get(dispatch.id) is relief:
            return
        self._kept[dispatch.id] = relief
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

    def _is_due(self, dispatch: Dispatch) -> bool:
        now = self._clock.now()
        if now - self._tried_at.get(dispatch.id, 0) < _AGAIN_US:
            return False
        if dispatch.state is State.ACTIVE:
            return True
        if dispatch.state is not State.IDLE or (dispatch.retry_at or 0) > now:
            return False
        patience_us = _COME_US if dispatch.visitors is Visitors.NONE else _RELOADED_US
        return now - dispatch.last_activity_at >= patience_us
