"""What has happened since the start of the process, counted: what metrics show and alerts are made of."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import DatabaseUnavailable, LiveKitTimeout, ServiceError
from app.lifecycle import Dispatch, EndReason, Event, State
from app.lifecycle.mode import Mode
from app.state.changes import Transition

#: Why a dispatch is to be made, by the event that said so.
_REASONS = {
    "intent": "request",
    Event.REUSED: "request",
    Event.REFUTED: "replacement",
    Event.AGENT_LEFT: "restart",
    Event.AGENT_LOST: "restart",
    Event.MISSING: "restart",
    Event.UNTAKEN: "retry",
    Event.JOIN_OVERDUE: "retry",
    Event.RETRY_DUE: "retry",
    Event.PEOPLE_IN: "arrival",
    Event.REMOVED: "comeback",
}
_RESTARTS = frozenset(event for event, reason in _REASONS.items() if reason == "restart")
_REPLACED = (
    Event.REFUTED,
    Event.UNTAKEN,
    Event.JOIN_OVERDUE,
    *sorted(_RESTARTS),
    Event.REMOVED,
)
_CLEANUPS = {Event.REMOVED: "removed", Event.REMOVE_FAILED: "failed", Event.OCCUPIED: "occupied"}


def _counter(*names: str) -> Counter[str]:
    """A counter that shows 0 for each of these from the start: a rate needs something to start from."""
    return Counter(dict.fromkeys(names, 0))


@dataclass(kw_only=True)
class Counters:
    """Counts of this process, by what docs/metrics.md has as the metric's label."""

    mode: Mode
    requests: Counter[str] = field(default_factory=lambda: _counter("created", "reused", "failed"))
    intended: Counter[str] = field(default_factory=lambda: _counter(*_REASONS.values()))
    created: int = 0
    adopted: int = 0
    creation_failures: Counter[str] = field(default_factory=Counter)
    #: Creations that have failed since the last one that did not.
    failed_creations_in_a_row: int = 0
    replaced: Counter[str] = field(default_factory=lambda: _counter(*_REPLACED))
    restarts: Counter[str] = field(default_factory=lambda: _counter(*sorted(_RESTARTS)))
    ended: Counter[str] = field(default_factory=lambda: _counter(*EndReason))
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    cleanups: Counter[str] = field(default_factory=lambda: _counter(*_CLEANUPS.values()))
    probes: Counter[str] = field(default_factory=Counter)
    livekit_calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: By event and result.
    webhooks: Counter[tuple[str, str]] = field(default_factory=Counter)
    commit_failures: int = 0
    #: Whether the database has refused the last commit.
    last_commit_failed: bool = False
    #: By method, route and class of status.
    http_requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    alert_posts: Counter[str] = field(default_factory=lambda: _counter("sent", "failed", "dropped"))

    def take(self, transitions: Iterable[Transition]) -> None:
        """Count what was committed."""
        for transition in transitions:
            self.transitions[transition.event, transition.after.state] += 1
            if transition.before is None:
                self._take_birth(transition.after, transition.event)
            else:
                self._take_change(transition.before, transition.after, transition.event)

    def _take_birth(self, dispatch: Dispatch, event: str) -> None:
        if dispatch.dispatch_id:
            self.adopted += 1
        elif dispatch.state is State.CREATING:
            self.intended[_REASONS[event]] += 1
            if event in _REPLACED:
                self.replaced[event] += 1
            if event in _RESTARTS:
                self.restarts[event] += 1

    def _take_change(self, before: Dispatch, after: Dispatch, event: str) -> None:
        if after.state is State.CREATING and before.state is not State.CREATING:
            self.intended[_REASONS[event]] += 1
        if after.dispatch_id and not before.dispatch_id:
            self.created += 1
        if after.state is State.ENDED and after.end_reason:
            self.ended[after.end_reason] += 1
        withheld = event == Event.REMOVED and self.mode.withholds_removal(after.end_reason)
        if event in _CLEANUPS and not withheld:
            self.cleanups[_CLEANUPS[Event(event)]] += 1

    @contextmanager
    def request(self) -> Iterator[Callable[[str], None]]:
        """Count a call for an agent: as what it yields is told, or as failed when it is told nothing."""
        results = ["failed"]
        try:
            yield results.append
        finally:
            self.requests[results[-1]] += 1

    @contextmanager
    def creation(self) -> Iterator[None]:
        """Count a creation, tries and all, that fails; and how many do without one that succeeds between."""
        try:
            yield
        except (ServiceError, asyncio.CancelledError) as error:
            # Cancelled is a creation that LiveKit was too slow for.
            code = error.code if isinstance(error, ServiceError) else LiveKitTimeout.code
            self.creation_failures[code] += 1
            self.failed_creations_in_a_row += 1
            raise
        self.failed_creations_in_a_row = 0

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Count a commit that the database does not take."""
        try:
            yield
        except DatabaseUnavailable:
            self.commit_failures += 1
            self.last_commit_failed = True
            raise
        self.last_commit_failed = False


class SuppressedActions:
    """What would have been done in `enforce`, each once for each dispatch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._noted: set[tuple[str, str]] = set()

    def note(self, act: str, subject: str) -> None:
        """Count an act on a subject: a row, a dispatch or an agent."""
        if (act, subject) not in self._noted:
            self._noted.add((act, subject))
            self.counts[act] += 1
