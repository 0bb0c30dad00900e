"""Group commit: whatever was submitted while the last transaction ran is the next transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import Busy, DatabaseUnavailable
from app.state.changes import Change, Outcome
from app.state.unit_of_work import UnitOfWork
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

#: Larger batches gain little and make all their submitters wait longer.
BATCH_SIZE = 256


@dataclass(frozen=True)
class _Submission:
    changes: tuple[Change, ...]
    done: asyncio.Future[list[Outcome]]


class GroupCommit:
    """Commits changes in the order of their submission; each submission is atomic."""

    def __init__(
        self,
        store: Store,
        new_unit: Callable[[], UnitOfWork],
        on_commit: Callable[[Change, Outcome], None],
        metered: Callable[[int], AbstractContextManager[None]],
        outage: WriteOutage,
        *,
        queue_limit: int = 20_000,
    ) -> None:
        self._store = store
        self._new_unit = new_unit
        #: Called for each outcome after its commit and before its submitter gets it.
        self._on_commit = on_commit
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

    async def submit(self, *changes: Change) -> list[Outcome]:
        """Commit the changes and return the outcome of each.

        Raises:
            Busy: the queue is full, or the service is stopping; nothing was queued.
            DatabaseUnavailable: the database rejected them; nothing was changed.
        """
        if self._closing or len(self._queue) >= self._queue_limit:
            reason = "The service is stopping" if self._closing else "The queue of changes is full; retry"
            raise Busy(reason)
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Submission(changes, done))
        self._filled.set()
        # A cancelled caller cancels only its wait: its changes are committed anyway.
        return await done

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._filled.clear()
                if not self._closing:
                    await self._filled.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))]
            try:
                await self._commit(batch)
            except BaseException:
                _fail(batch, DatabaseUnavailable("It is not known whether the change was stored; retry"))
                raise

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
            _fail(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One submission is bad: it must not fail the others.
                for submission in batch:
                    await self._commit([submission])
                return
            logger.exception("Unexpected error while storing a change", extra={"action": "commit"})
            _fail(batch, error)
        else:
            self._outage.note_commit(changes, outcomes)
            position = 0
            for submission in batch:
                own = outcomes[position : position + len(submission.changes)]
                position += len(submission.changes)
                for change, outcome in zip(submission.changes, own, strict=True):
                    self._notify(change, outcome)
                if not submission.done.done():
                    submission.done.set_result(own)

    def _notify(self, change: Change, outcome: Outcome) -> None:
        try:
            self._on_commit(change, outcome)
        except Exception:
            # The change is committed, and its submitter must get the outcome. The row's deadline retries.
            logger.exception("Unexpected error while processing a commit", extra={"action": "commit"})


def _fail(batch: Sequence[_Submission], error: Exception) -> None:
    for submission in batch:
        if not submission.done.done():
            submission.done.set_exception(error)
            # Marks the exception as retrieved: without a waiter, asyncio would log a warning at exit.
            submission.done.exception()
