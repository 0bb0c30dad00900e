"""Group commit: whatever was submitted while the last transaction ran is the next transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import Busy, DatabaseUnavailable
from app.state.changes import Change, Outcome
from app.state.unit_of_work import UnitOfWork
from app.tasks import BackgroundLoop

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Larger batches gain little and make all their submitters wait longer.
BATCH_SIZE = 256
#: Of the event loop, for which a commit waits while more comes: a turn may be long.
_MOST_TURNS = 8


class Submitter(Protocol):
    """Who waits for a submission; the first news counts, and what it does then must not block."""

    def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """The changes are committed; `outcomes` has one for each."""

    def take_failure(self, error: Exception) -> None:
        """Nothing was changed, unless the error says that this is not known."""


@dataclass(frozen=True, slots=True)
class _Submission:
    changes: tuple[Change, ...]
    submitter: Submitter


class _Waiter:
    """A submitter that awaits its outcomes."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

    def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        if not self.done.done():
            self.done.set_result(outcomes)

    def take_failure(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            # Marks the exception as retrieved: without a waiter, asyncio would log a warning at exit.
            self.done.exception()


class GroupCommit:
    """Commits changes in the order of their submission; each submission is atomic."""

    def __init__(
        self,
        store: Store,
        new_unit: Callable[[], UnitOfWork],
        on_commit: Callable[[Change, Outcome], None],
        on_failure: Callable[[Sequence[Change]], None],
        metered: Callable[[int], AbstractContextManager[None]],
        outage: WriteOutage,
        *,
        queue_limit: int = 20_000,
    ) -> None:
        self._store = store
        self._new_unit = new_unit
        #: Called for each outcome after its commit and before its submitter gets it.
        self._on_commit = on_commit
        #: Called for the changes of each submission that failed, before its submitter is told.
        self._on_failure = on_failure
        #: A context around every commit, called with the number of changes.
        self._metered = metered
        self._outage = outage
        self._queue_limit = queue_limit
        self._queue: deque[_Submission] = deque()
        self._filled = asyncio.Event()
        self._closing = False
        self._loop = BackgroundLoop("group commit")

    def __len__(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._loop.start(self._run)

    async def close(self) -> None:
        """Accept nothing more, commit the queue, and stop."""
        self._closing = True
        self._filled.set()
        await self._loop.finish()

    async def submit(self, *changes: Change) -> Sequence[Outcome]:
        """Commit the changes and return the outcome of each.

        Raises:
            Busy: the queue is full, or the service is stopping; nothing was queued.
            DatabaseUnavailable: the database rejected them; nothing was changed.
        """
        waiter = _Waiter()
        self.submit_for(waiter, *changes)
        # A cancelled caller cancels only its wait: its changes are committed anyway.
        return await waiter.done

    def submit_for(self, submitter: Submitter, *changes: Change) -> None:
        """Queue the changes; the submitter is told when they are committed, or why they are not.

        Raises:
            Busy: as for `submit`; the submitter is not told.
        """
        if self._closing or len(self._queue) >= self._queue_limit:
            self._on_failure(changes)
            reason = "The service is stopping" if self._closing else "The queue of changes is full; retry"
            raise Busy(reason)
        self._queue.append(_Submission(changes, submitter))
        self._filled.set()

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._filled.clear()
                if not self._closing:
                    await self._filled.wait()
                continue
            await self._gather()
            batch = [self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))]
            try:
                await self._commit(batch)
            except BaseException:
                self._fail(batch, DatabaseUnavailable("It is not known whether the change was stored; retry"))
                raise

    async def _gather(self) -> None:
        """Let the event loop turn while each turn brings more: a commit costs nearly the same for all."""
        gathered = 0
        for _ in range(_MOST_TURNS):
            if not gathered < len(self._queue) < BATCH_SIZE:
                return
            gathered = len(self._queue)
            await asyncio.sleep(0)

    async def _commit(self, batch: Sequence[_Submission]) -> None:
        changes = [change for submission in batch for change in submission.changes]
        try:
            with self._metered(len(changes)):
                outcomes = await self._store.commit(changes, self._new_unit)
        except DatabaseUnavailable as error:
            self._outage.note_failure(error)
            logger.error(  # noqa: TRY400 - the traceback adds nothing
                "Database rejected a batch",
                extra={"action": "commit", "changes": len(changes), "reason": str(error)},
            )
            self._fail(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One submission is bad: it must not fail the others.
                for submission in batch:
                    await self._commit([submission])
                return
            logger.exception("Unexpected error while storing a change", extra={"action": "commit"})
            self._fail(batch, error)
        else:
            self._outage.note_commit(changes, outcomes)
            position = 0
            for submission in batch:
                own = outcomes[position : position + len(submission.changes)]
                position += len(submission.changes)
                for change, outcome in zip(submission.changes, own, strict=True):
                    self._notify(change, outcome)
                _tell(submission.submitter.take_outcomes, own)

    def _notify(self, change: Change, outcome: Outcome) -> None:
        try:
            self._on_commit(change, outcome)
        except Exception:
            # The change is committed, and its submitter must get the outcome. The row's deadline retries.
            logger.exception("Unexpected error while processing a commit", extra={"action": "commit"})

    def _fail(self, batch: Sequence[_Submission], error: Exception) -> None:
        for submission in batch:
            self._on_failure(submission.changes)
            _tell(submission.submitter.take_failure, error)


def _tell(take: Callable[[T], None], news: T) -> None:
    try:
        take(news)
    except Exception:
        # The others of the batch are told all the same.
        logger.exception("Unexpected error while answering for a commit", extra={"action": "commit"})
