"""The change processor: commits changes, then updates timers and logs transitions.

All writes go through here.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence

from app.clock import Clock
from app.control.policies import Policies
from app.control.timers import Timers
from app.database.group_commit import GroupCommit, Submitter
from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import DatabaseUnavailable
from app.lifecycle import Dispatch, Policy, Signal
from app.metrics.registry import Metrics
from app.state.changes import Advance, Change, Outcome, RoomEvent, RoomEventKind, Transition
from app.state.dispatch_set import DispatchSet
from app.state.trace_context import trace_id_of
from app.state.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: A line costs as much as a webhook.
_LINE_EVERY_S = 0.1


class ChangeProcessor:
    def __init__(
        self,
        store: Store,
        timers: Timers,
        clock: Clock,
        policies: Policies,
        metrics: Metrics,
        pseudonym: Callable[[str], str],
    ) -> None:
        """`pseudonym`: see `links.pseudonyms`."""
        self._timers = timers
        self._clock = clock
        self._policies = policies
        self._metrics = metrics
        self._pseudonym = pseudonym
        #: Since when no webhook was lost here: what LiveKit sent before, or in a failure, may be unknown.
        self.listening_since = clock.now()
        self._subscribers: list[Callable[[Change, Outcome], None]] = []
        self._presence_log = _PresenceLog()
        #: Marks this process's leases, also against those from before a restart.
        self.process_id = new_row_id()
        self._store = store
        self.outage = WriteOutage(clock.now)
        self._commits = GroupCommit(
            store, self._new_unit, self._committed, self._not_committed, metrics.commit, self.outage
        )

    @property
    def policy(self) -> Policy:
        return self._policies.lifecycle

    @property
    def queue_depth(self) -> int:
        """How many submissions wait for the next commit."""
        return len(self._commits)

    def start(self) -> None:
        self._commits.start()

    async def close(self) -> None:
        await self._commits.close()
        self._presence_log.write()

    async def submit(self, *changes: Change) -> Sequence[Outcome]:
        """Commit `changes` together; see `GroupCommit.submit`."""
        return await self._commits.submit(*changes)

    async def submit_one(self, change: Change) -> Outcome:
        return (await self.submit(change))[0]

    def submit_for(self, submitter: Submitter, change: Change) -> None:
        """Commit a change and tell the submitter; see `GroupCommit.submit_for`."""
        self._commits.submit_for(submitter, change)

    async def advance(self, dispatch: Dispatch, signal: Signal, version: int | None = None) -> Outcome:
        """Apply a signal to one dispatch; see `advance_of`. The caller runs the effects."""
        return await self.submit_one(advance_of(dispatch, signal, version))

    async def try_to_store(self) -> None:
        """In an outage, find out whether it is over: out of traffic, no webhook would show it.

        Raises:
            DatabaseUnavailable: it is not.
        """
        if self.outage.since_at is None:
            return
        try:
            await self._store.store_trial_rows(new_row_id())
        except DatabaseUnavailable as error:
            self.outage.note_failure(error)
            raise
        self.outage.end()

    def subscribe(self, subscriber: Callable[[Change, Outcome], None]) -> None:
        """Call `subscriber` after every commit, with the change and its outcome; it must not block.

        It is not called for a webhook that concerns no dispatch.
        """
        self._subscribers.append(subscriber)

    def _new_unit(self) -> UnitOfWork:
        dispatch_set = DispatchSet(
            policy=self.policy, now=self._clock.now(), new_id=new_row_id, process_id=self.process_id
        )
        return UnitOfWork(dispatch_set=dispatch_set, pseudonym=self._pseudonym)

    def _not_committed(self, changes: Sequence[Change]) -> None:
        if any(isinstance(change, RoomEvent) for change in changes):
            self.listening_since = self._clock.now()

    def _committed(self, change: Change, outcome: Outcome) -> None:
        if isinstance(change, RoomEvent):
            if outcome.applied and change.participant:
                self._presence_log.note(change)
            if not outcome.transitions and not outcome.stranger and not outcome.disputed:
                # Nearly all webhooks are about rooms without a dispatch.
                return
        for transition in outcome.transitions:
            self._timers.sync(transition.after)
            _log(transition)
        self._metrics.take(outcome.transitions)
        for subscriber in self._subscribers:
            subscriber(change, outcome)


def advance_of(dispatch: Dispatch, signal: Signal, version: int | None = None) -> Advance:
    """The change that applies a signal to a dispatch if it is still at `version`; None: at any version."""
    return Advance(room_name=dispatch.room_name, row_id=dispatch.id, signal=signal, version=version)


def new_row_id() -> str:
    return uuid.uuid4().hex


def _log(transition: Transition) -> None:
    before = transition.before.state if transition.before else None
    after = transition.after
    if before is after.state:
        return
    traced = trace_id_of(after.briefing)
    logger.info(
        "A dispatch changed its state",
        extra={
            "action": "transition",
            "dispatch_id": after.dispatch_id or after.id,
            "room": after.room_name,
            "agent": after.agent_name,
            "event": transition.event,
            "from_state": before,
            "to_state": after.state,
            "end_reason": after.end_reason,
            "people": after.participant_count,
        }
        | ({"trace_id": traced} if traced else {}),
    )


class _PresenceLog:
    """Logs that participants joined or left, without their names; one line for what comes close together."""

    def __init__(self) -> None:
        self._events: list[RoomEvent] = []

    def note(self, event: RoomEvent) -> None:
        """Add a committed event to the next line."""
        if not self._events:
            asyncio.get_running_loop().call_later(_LINE_EVERY_S, self.write)
        self._events.append(event)

    def write(self) -> None:
        events, self._events = self._events, []
        if joined := [event for event in events if event.kind is RoomEventKind.JOINED]:
            logger.info("Participant joined a room", extra=_fields(joined))
        if left := [event for event in events if event.kind is RoomEventKind.LEFT]:
            logger.info("Participant left a room", extra=_fields(left))


def _fields(events: Sequence[RoomEvent]) -> dict[str, object]:
    fields: dict[str, object] = {"action": "connection"}
    if len(events) > 1:
        return fields | {"count": len(events)}
    (event,) = events
    return fields | {"room": event.room_name} | ({"reason": event.reason} if event.reason else {})
