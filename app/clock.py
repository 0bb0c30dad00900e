"""The source of every stored time; waits use the event loop's clock."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol, overload

from msgspec import Meta

#: ISO 8601 in UTC with milliseconds, as `to_iso` returns it; so OpenAPI describes it.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

#: The machine's time in seconds since 1970, for what others have dated.
wall_time_s = time.time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970. Never jumps, even when the machine's clock does."""


class SteadyClock:
    """The wall time at the start of the process plus the monotonic time since then.

    Deadlines are compared with it: setting the wall clock forward by an hour ends no agent early, and
    setting it back keeps no agent an hour too long.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def now(self) -> int:
        return (self._monotonic_ns() + self._offset_ns) // 1_000


@overload
def to_iso(at: int) -> str: ...
@overload
def to_iso(at: int | None) -> str | None: ...
def to_iso(at: int | None) -> str | None:
    """A time as answers and events have it: ISO 8601 in UTC."""
    if at is None:
        return None
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
