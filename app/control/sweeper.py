"""The sweeper: acts on what is due, at start, on time, and in every interval."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from app.clock import Clock
from app.control.inspector import RoomInspector
from app.control.processor import ChangeProcessor
from app.control.reconciler import Reconciler
from app.control.timers import Timers
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import SECOND_US, Event
from app.lifecycle.mode import Mode
from app.metrics.counters import SuppressedActions
from app.state.changes import Due, Outcome
from app.state.views import Deadline
from app.tasks import BackgroundLoop, BackgroundTasks, repeat

logger = logging.getLogger(__name__)

#: As many timers are armed in a few milliseconds.
_PORTION = 1_000

#: How long ended dispatches, their history and webhook ids are kept.
RETENTION_US = 86_400 * SECOND_US


class Sweeper:
    def __init__(
        self,
        store: Store,
        processor: ChangeProcessor,
        timers: Timers,
        reconciler: Reconciler,
        inspector: RoomInspector,
        clock: Clock,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
        interval_s: float,
    ) -> None:
        self._store = store
        self._processor = processor
        self._timers = timers
        self._reconciler = reconciler
        self._inspector = inspector
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        self._interval_s = interval_s
        self._tasks = BackgroundTasks()
        self._loop = BackgroundLoop("sweep")

    async def restore(self) -> int:
        """Arm a timer for every deadline in the database; what is overdue fires at once. Returns how many."""
        await self._store.end_dead_leases(self._clock.now())
        deadlines = await self._store.deadlines()
        await self._arm(deadlines)
        return len(deadlines)

    async def _arm(self, deadlines: Sequence[Deadline]) -> None:
        for start in range(0, len(deadlines), _PORTION):
            self._timers.restore(deadlines[start : start + _PORTION])
            # With very many, others have their turn in between.
            await asyncio.sleep(0)

    def start(self) -> None:
        self._loop.start(repeat(self._sweep_shielded, self._interval_s))

    async def close(self, grace_s: float) -> None:
        self._timers.stop()
        # Only its sleep is cut short: the round that it has begun has its share of the grace.
        await self._loop.close()
        await self._tasks.drain(grace_s)

    def act(self, deadline: Deadline) -> None:
        """A timer has fired."""
        self._tasks.spawn(self._act(deadline), "deadline")

    async def sweep(self) -> None:
        """One round: read LiveKit's truth, act on what is due, forget what is old."""
        for step in (self._reconcile, self._act_on_overdue, self._prune):
            await _guarded(step)

    async def _reconcile(self) -> None:
        # A replica that finds another at it has its truth from that one, through the tables.
        async with self._store.exclusive("reconcile") as alone:
            if alone:
                await self._reconciler.run()

    async def _act(self, deadline: Deadline) -> None:
        unasked, suppressed = {Event.JOIN_OVERDUE}, self._mode.withheld_events
        try:
            outcome = await self._submit(deadline, suppressed | unasked)
            if outcome.withheld in unasked - suppressed:
                # The webhook of its join may have been lost, and nobody is to be robbed of an agent for that.
                await self._inspector.read_room(deadline.room_name)
                outcome = await self._submit(deadline, suppressed)
        except ServiceError as error:
            logger.warning(
                "A deadline could not be acted on; the next sweep retries it",
                extra={"action": "deadline", "code": error.code},
            )
            return
        if outcome.withheld:
            # Its timer stays down until the next sweep, or it would fire again at once.
            self._suppressed.note(outcome.withheld, deadline.row_id)
        elif outcome.dispatch and not outcome.applied:
            # Too early, or another process has moved the deadline.
            self._timers.sync(outcome.dispatch)

    async def _submit(self, deadline: Deadline, withhold: frozenset[Event]) -> Outcome:
        return await self._processor.submit_one(
            Due(room_name=deadline.room_name, row_id=deadline.row_id, withhold=withhold)
        )

    async def _act_on_overdue(self) -> None:
        # Those whose timers run too: they may be waiting on a clock that has stood still meanwhile.
        await self._arm(await self._store.deadlines_until(self._clock.now()))

    async def _prune(self) -> None:
        await self._store.prune(self._clock.now() - RETENTION_US)

    async def _sweep_shielded(self) -> None:
        await asyncio.shield(self._tasks.spawn(self.sweep(), "round"))


async def _guarded(step: Callable[[], Awaitable[None]]) -> None:
    """Run one step of a round; its failure is no reason to leave out the others."""
    try:
        await step()
    except ServiceError as error:
        logger.warning(
            "A step of the sweep failed; the next round retries it",
            extra={"action": "sweep", "code": error.code},
        )
    except Exception:
        logger.exception("Unexpected error in a step of the sweep", extra={"action": "sweep"})
