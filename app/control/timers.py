"""Timers: one asyncio timer per dispatch, as a cache of the deadline in its row.

A timer is armed after the commit that set the deadline. It fires once, and the callback re-reads the row.
Without a timer nothing is due, or another process armed it; the sweep finds deadlines without a timer.
"""

import asyncio
from collections.abc import Callable, Iterable

from app.clock import Clock
from app.lifecycle import Dispatch
from app.state.views import Deadline


class Timers:
    def __init__(self, clock: Clock, fire: Callable[[Deadline], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._armed: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._stopped = False

    def __len__(self) -> int:
        return len(self._armed)

    def due_at(self, row_id: str) -> int | None:
        """When the timer of this row fires; None without a timer."""
        armed = self._armed.get(row_id)
        return armed[0] if armed else None

    def sync(self, dispatch: Dispatch) -> None:
        """Bring the timer of a dispatch into line with its row."""
        if dispatch.due_at is None:
            self._disarm(dispatch.id)
        else:
            self.arm(Deadline(dispatch.id, dispatch.room_name, dispatch.due_at))

    def arm(self, deadline: Deadline) -> None:
        delay_s = max(0, deadline.due_at - self._clock.now()) / 1_000_000
        if self._stopped or (delay_s and self.due_at(deadline.row_id) == deadline.due_at):
            return
        self._disarm(deadline.row_id)
        handle = asyncio.get_running_loop().call_later(delay_s, self._expire, deadline)
        self._armed[deadline.row_id] = (deadline.due_at, handle)

    def restore(self, deadlines: Iterable[Deadline]) -> None:
        for deadline in deadlines:
            self.arm(deadline)

    def stop(self) -> None:
        """Disarm all timers, and arm no more."""
        self._stopped = True
        for _, handle in self._armed.values():
            handle.cancel()
        self._armed.clear()

    def _expire(self, deadline: Deadline) -> None:
        del self._armed[deadline.row_id]
        self._fire(deadline)

    def _disarm(self, row_id: str) -> None:
        armed = self._armed.pop(row_id, None)
        if armed:
            armed[1].cancel()
