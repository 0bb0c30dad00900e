"""The group commit: whatever was submitted while the last transaction ran is the next transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from app.database.store import Store
from app.errors import Busy, DatabaseUnavailable
from app.state.changes import Change, Outcome
from app.state.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: Larger batches gain little and make everybody in them wait for the slowest.
BATCH_SIZE = 256


@dataclass(frozen=True)
class _Submission:
    changes: tuple[Change, ...]
    done: asyncio.Future[list[Outcome]]


class GroupCommit:
    """Commits changes in the order of their submission; a submission is committed whole or not at all."""

    def __init__(
        self,
        store: Store,
        new_unit: Callable[[], UnitOfWork],
        on_commit: Callable[[Change, Outcome], None],
        metered: Callable[[int], AbstractContextManager[None]],
        *,
        queue_limit: int = 20_000,
    ) -> None:
        self._store = store
        self._new_unit = new_unit
        #: Called for each outcome after its commit and before its submitter hears of it.
        self._on_commit = on_commit
        #: Around every commit, told how many changes are in it.
        self._metered = metered
        self._queue_limit = queue_limit
        self._queue: deque[_Submission] = deque()
        self._filled = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="group-commit writer")

    async def close(self) -> None:
        """Take nothing more, commit what is queued, and stop."""
        self._closing = True
        self._filled.set()
        if self._task:
            await self._task

    async def submit(self, *changes: Change) -> list[Outcome]:
        """Commit the changes and return what became of each.

        Raises:
            Busy: the queue is full, or the service is stopping; nothing was queued.
            DatabaseUnavailable: the database did not take it; nothing was changed.
        """
        if self._closing or len(self._queue) >= self._queue_limit:
            raise Busy("the service is stopping" if self._closing else "too much is waiting to be stored")
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Submission(changes, done))
        self._filled.set()
        # A caller that goes away cancels only this: what it submitted is committed all the same.
        return await done

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._filled.clear()
                if not self._closing:
                    await self._filled.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))]
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Submission]) -> None:
        changes = [change for submission in batch for change in submission.changes]
        try:
            with self._metered(len(changes)):
                outcomes = await self._store.commit(changes, self._new_unit)
        except DatabaseUnavailable as error:
            logger.error(  # noqa: TRY400 - no news in the traceback
                "The database did not take a batch",
                extra={"action": "commit", "changes": len(changes), "reason": str(error)},
            )
            _fail(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One of them is bad: it must not fail its neighbours.
                for submission in batch:
                    await self._commit([submission])
                return
            logger.exception("A change cannot be stored", extra={"action": "commit"})
            _fail(batch, error)
        else:
            position = 0
            for submission in batch:
                own = outcomes[position : position + len(submission.changes)]
                position += len(submission.changes)
                for change, outcome in zip(submission.changes, own, strict=True):
                    self._tell(change, outcome)
                if not submission.done.done():
                    submission.done.set_result(own)

    def _tell(self, change: Change, outcome: Outcome) -> None:
        try:
            self._on_commit(change, outcome)
        except Exception:
            # It is committed, and whoever waits for it is to hear so; the rows' deadlines see to the rest.
            logger.exception("What follows from a commit failed", extra={"action": "commit"})


def _fail(batch: Sequence[_Submission], error: Exception) -> None:
    for submission in batch:
        if not submission.done.done():
            submission.done.set_exception(error)
            # Nobody may be left to hear of it; that is no reason for a warning at exit.
            submission.done.exception()
