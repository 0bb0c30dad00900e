"""Deliveries of events to the endpoints of other programs: when each is tried, and how an endpoint fares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from app.lifecycle import SECOND_US
from app.state.events import LoggedEvent

#: An event that was not delivered for this long is given up.
PATIENCE_US = 24 * 3_600 * SECOND_US
#: After so many failures in a row an endpoint fails as a whole: it gets one try at a time, with pauses.
FAILING_AFTER = 3
#: An event that was queued so long before an outage of its endpoint has not failed because of it alone.
OUTAGE_LEAD_US = 60 * SECOND_US
#: 5 s, 15 s, 45 s ... for one event, up to three hours.
_FIRST_WAIT_US, _WAIT_FACTOR, _LONGEST_WAIT_US = 5 * SECOND_US, 3, 3 * 3_600 * SECOND_US
#: For the endpoint as a whole: one that works again is noticed within this time.
_LONGEST_PAUSE_US = 600 * SECOND_US


class Delivery(NamedTuple):
    """An event that is to be sent to an endpoint now."""

    endpoint: str
    event: LoggedEvent


class Attempt(NamedTuple):
    """What became of one delivery."""

    endpoint: str
    position: int
    #: None: the receiver has taken it. Else a status or the type of an error.
    error: str | None = None
    #: How long the receiver wants to be left alone.
    retry_after_us: int | None = None
    #: Whether the receiver wants no more events at all.
    is_gone: bool = False
    #: The waits are multiplied by it, so that not all come at once.
    jitter: float = 1.0


@dataclass(frozen=True, kw_only=True)
class EndpointHealth:
    """How an endpoint has fared so far; the same for all replicas."""

    #: Since the last success.
    failures: int = 0
    failing_since: int | None = None
    #: It gets nothing before; None: at once.
    due_at: int | None = None
    last_error: str | None = None
    last_error_at: int | None = None
    delivered: int = 0
    delivered_at: int | None = None
    given_up: int = 0
    #: When it wanted no more events; None: it has not.
    disabled_at: int | None = None

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILING_AFTER

    def after(self, attempts: Sequence[Attempt], now: int) -> "EndpointHealth":
        health = self
        for attempt in attempts:
            health = health._failed(attempt, now) if attempt.error else health._delivered(now)
        return health

    def is_open(self, now: int) -> bool:
        """Whether it may get something now."""
        return self.disabled_at is None and (self.due_at is None or self.due_at <= now)

    def _delivered(self, now: int) -> "EndpointHealth":
        return replace(
            self,
            failures=0,
            failing_since=None,
            # What another answer has asked for meanwhile still counts.
            due_at=self.due_at if self.due_at and self.due_at > now else None,
            delivered=self.delivered + 1,
            delivered_at=now,
        )

    def _failed(self, attempt: Attempt, now: int) -> "EndpointHealth":
        failures = self.failures + 1
        pause_us = attempt.retry_after_us or 0
        if failures >= FAILING_AFTER:
            own_us = retry_wait_us(failures - FAILING_AFTER + 1, attempt.jitter)
            pause_us = max(pause_us, min(own_us, _LONGEST_PAUSE_US))
        return replace(
            self,
            failures=failures,
            failing_since=self.failing_since or now,
            due_at=max(now + pause_us, self.due_at or 0) if pause_us else self.due_at,
            last_error=attempt.error,
            last_error_at=now,
            disabled_at=(self.disabled_at or now) if attempt.is_gone else self.disabled_at,
        )


class EndpointState(StrEnum):
    DELIVERING = "delivering"
    FAILING = "failing"  #: the last try has failed
    DISABLED = "disabled"  #: it wanted no more events (410); the next start of the service tries again


@dataclass(frozen=True, kw_only=True)
class EndpointStatus:
    """An endpoint, and what waits for it."""

    name: str
    health: EndpointHealth
    waiting: int
    #: When the oldest of those that wait was queued.
    waiting_since: int | None
    #: All events up to here are delivered or given up.
    done_position: int
    #: When one that has failed is tried again; None: none has, or the endpoint is disabled.
    next_try_at: int | None

    @property
    def state(self) -> EndpointState:
        if self.health.disabled_at is not None:
            return EndpointState.DISABLED
        return EndpointState.FAILING if self.health.failures else EndpointState.DELIVERING


class GivenUp(NamedTuple):
    """Events that an endpoint has not taken in time."""

    endpoint: str
    number: int
    first_position: int
    last_position: int


def receiver_label(endpoint: str) -> str:
    """The endpoint in metrics, which anybody may read: the path of an address can be as good as a key."""
    parts = urlsplit(endpoint)
    if not parts.path.strip("/"):
        return parts.netloc
    return f"{parts.netloc}/{hashlib.sha256(endpoint.encode()).hexdigest()[:6]}"


def retry_wait_us(failures: int, jitter: float) -> int:
    """The wait after so many failures in a row, from 1 on."""
    wait_us = _FIRST_WAIT_US * _WAIT_FACTOR ** min(failures - 1, 10)
    return int(min(wait_us, _LONGEST_WAIT_US) * jitter)
