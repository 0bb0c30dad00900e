"""Since when nothing can be stored: a full disk can still be read."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, insert

from app.database.tables import webhook_events
from app.lifecycle import SECOND_US
from app.state.changes import Change, Outcome, RoomEvent

#: Shorter ones are over before anybody could do something about them.
_LONG_US = 60 * SECOND_US
#: A page or more, as commits need them: the last free bytes of a file prove nothing.
_TRIAL_ROWS = 500


class WriteOutage:
    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        #: When commits began to fail; since then none has stored anything.
        self.since_at: int | None = None
        self._failed_at = 0
        self._reason = ""

    @property
    def problem(self) -> str | None:
        """What to tell an operator, once commits have failed for a minute."""
        if self.since_at is None or self._failed_at - self.since_at < _LONG_US:
            return None
        since = datetime.fromtimestamp(self.since_at / SECOND_US, UTC)
        return f"Nothing can be stored since {since:%Y-%m-%dT%H:%M:%SZ}: {self._reason}"

    def note_failure(self, error: Exception) -> None:
        self._failed_at, self._reason = self._now(), str(error)
        if self.since_at is None:
            self.since_at = self._failed_at

    def note_commit(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """The outage is over if something was stored: on a full disk, a repetition succeeds too."""
        if self.since_at is not None and any(map(_is_stored, changes, outcomes)):
            self.end()

    def end(self) -> None:
        self.since_at = None


def _is_stored(change: Change, outcome: Outcome) -> bool:
    return bool(outcome.transitions) or (isinstance(change, RoomEvent) and outcome.applied)


def store_trial_rows(connection: Connection, trial: str) -> None:
    """Write what the next pruning deletes; `trial` is a name that was not used before."""
    rows = [{"id": f"{trial} {number:06}", "received_at": 0} for number in range(_TRIAL_ROWS)]
    connection.execute(insert(webhook_events), rows)
