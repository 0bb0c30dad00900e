"""The sweeper: acts on deadlines, at the start, when a timer fires, and in every interval."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from app.clock import Clock
from app.control.inspector import RoomInspector
from app.control.learning import Learning
from app.control.memory import ConversationMemory
from app.control.processor import ChangeProcessor
from app.control.reconciler import Reconciler
from app.control.timers import Timers
from app.control.usage import UsageLedger
from app.database.store import Store
from app.errors import ServiceError
from app.events.outbox import Outbox
from app.lifecycle import SECOND_US, Dispatch, Event, Signal
from app.lifecycle.mode import Mode
from app.metrics.counters import SuppressedActions
from app.state.changes import Due, Outcome
from app.state.views import Deadline
from app.tasks import BackgroundLoop, BackgroundTasks, batches, repeat

logger = logging.getLogger(__name__)

#: How many timers are armed in one go; it takes a few milliseconds.
_BATCH = 1_000

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
        learning: Learning,
        usage: UsageLedger,
        memory: ConversationMemory,
        outbox: Outbox,
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
        self._learning = learning
        self._usage = usage
        self._memory = memory
        self._outbox = outbox
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        self._interval_s = interval_s
        self._tasks = BackgroundTasks()
        self._loop = BackgroundLoop("sweep")

    async def restore(self) -> int:
        """Arm a timer for every deadline in the database; overdue ones fire at once. Returns their number."""
        await self._store.end_dead_leases(self._clock.now())
        deadlines = await self._store.deadlines()
        await self._arm(deadlines)
        return len(deadlines)

    async def _arm(self, deadlines: Sequence[Deadline]) -> None:
        async for batch in batches(deadlines, _BATCH):
            self._timers.restore(batch)

    def start(self) -> None:
        self._loop.start(partial(repeat, self._sweep_shielded, self._interval_s))

    async def close(self, grace_s: float) -> None:
        self._timers.stop()
        # This ends only the sleep between rounds: a round under way gets its share of the grace.
        await self._loop.close()
        await self._tasks.drain(grace_s)

    def act(self, deadline: Deadline) -> None:
        """Act on a deadline whose timer has fired, in the background."""
        self._tasks.spawn(self._act(deadline), "deadline")

    async def sweep(self) -> None:
        """One round: check the database, reconcile, act on overdue deadlines, learn TTLs, delete old rows."""
        for step in (
            self._store.file.look,
            self._processor.try_to_store,
            self._reconcile,
            self._act_on_overdue,
            self._learning.refresh,
            self._prune,
            self._learning.prune,
            self._usage.prune,
            self._memory.prune,
            self._outbox.prune,
        ):
            await _guarded(step)

    async def _reconcile(self) -> None:
        # If another replica is reconciling, its results reach this one through the tables.
        async with self._store.exclusive("reconcile") as alone:
            if alone:
                await self._reconciler.run()

    async def _act(self, deadline: Deadline) -> None:
        withheld = self._mode.withheld_events
        try:
            outcome = await self._submit(deadline, withheld | {Event.JOIN_OVERDUE})
            if outcome.withheld is Event.JOIN_OVERDUE and Event.JOIN_OVERDUE not in withheld:
                # The webhook of the join may have been lost: read the room before giving up on the agent.
                reading = await self._inspector.read_room(deadline.room_name)
                row = next((one for one in reading.rows if one.id == deadline.row_id), None)
                expected = reading.expected_agent(row) if row else None
                if row and expected and await self._hold(row):
                    return
                outcome = await self._submit(deadline, withheld, expected)
        except ServiceError as error:
            logger.warning(
                "Deadline could not be acted on; the next sweep retries",
                extra={"action": "deadline", "code": error.code},
            )
            return
        if outcome.withheld:
            # Its timer stays off until the next sweep, or it would fire again at once.
            self._suppressed.note(outcome.withheld, deadline.row_id)
        elif outcome.dispatch and not outcome.applied:
            # Too early, or another process has moved the deadline.
            self._timers.sync(outcome.dispatch)

    async def _hold(self, row: Dispatch) -> bool:
        """Whether the worker that has the job of an overdue dispatch is waited for."""
        if self._processor.policy.holds_until(row) <= self._clock.now():
            return False
        return (await self._processor.advance(row, Signal(event=Event.HELD), row.version)).applied

    async def _submit(
        self, deadline: Deadline, withhold: frozenset[Event], expected_agent: str | None = None
    ) -> Outcome:
        return await self._processor.submit_one(
            Due(
                room_name=deadline.room_name,
                row_id=deadline.row_id,
                withhold=withhold,
                agent_identity=expected_agent,
            )
        )

    async def _act_on_overdue(self) -> None:
        # Including those whose timers run: a timer's clock may have stood still.
        await self._arm(await self._store.deadlines_until(self._clock.now()))

    async def _prune(self) -> None:
        await self._store.prune(self._clock.now() - RETENTION_US)

    async def _sweep_shielded(self) -> None:
        await asyncio.shield(self._tasks.spawn(self.sweep(), "round"))


async def _guarded(step: Callable[[], Awaitable[None]]) -> None:
    """Run one step of a round; if it fails, the others still run."""
    try:
        await step()
    except ServiceError as error:
        logger.warning(
            "Sweep step failed; the next round retries",
            extra={"action": "sweep", "code": error.code},
        )
    except Exception:
        logger.exception("Unexpected error in a step of the sweep", extra={"action": "sweep"})
