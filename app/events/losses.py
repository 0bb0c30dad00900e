"""What is said of events that an endpoint has not taken in time: a line in the log, and a count."""

import logging
from collections.abc import Iterable

from app.metrics.counters import Counters
from app.state.deliveries import GivenUp, receiver_label

logger = logging.getLogger(__name__)


class Losses:
    def __init__(self, counters: Counters) -> None:
        self._counts = counters.event_deliveries

    def note(self, given_up: Iterable[GivenUp]) -> None:
        """They were tried for a day."""
        for lost in given_up:
            self._count(lost)
            logger.error(
                "Events could not be delivered for a day and are given up; they can be replayed",
                extra=_fields(lost),
            )

    def note_deleted(self, given_up: Iterable[GivenUp]) -> None:
        """They were deleted with the log of events, as old as EVENT_DAYS."""
        for lost in given_up:
            self._count(lost)
            logger.error(
                "Events that were not delivered are older than EVENT_DAYS and are deleted",
                extra=_fields(lost),
            )

    def _count(self, lost: GivenUp) -> None:
        self._counts[receiver_label(lost.endpoint), "given_up"] += lost.number


def _fields(lost: GivenUp) -> dict[str, object]:
    return {
        "action": "event_delivery",
        "endpoint": lost.endpoint,
        "count": lost.number,
        "first_position": lost.first_position,
        "last_position": lost.last_position,
    }
