"""What has happened since the start of the process, counted: what metrics show and alerts are made of."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from app.errors import DatabaseUnavailable, LiveKitTimeout, ServiceError
from app.lifecycle import Dispatch, EndReason, Event, State
from app.lifecycle.mode import Mode
from app.metrics.collector import ONLY, Family
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
_RESTARTS = tuple(sorted(event for event, reason in _REASONS.items() if reason == "restart"))
_REPLACED = (
    Event.REFUTED,
    Event.UNTAKEN,
    Event.JOIN_OVERDUE,
    *_RESTARTS,
    Event.REMOVED,
)
#: Far more than the dispatches that are open at once; one that is forgotten would be counted again.
_MOST_NOTED = 10_000
_CLEANUPS = {Event.REMOVED: "removed", Event.REMOVE_FAILED: "failed", Event.OCCUPIED: "occupied"}


class Counters:
    """What has happened in this process: each line below is a metric, by the values of its labels."""

    def __init__(self, *, mode: Mode) -> None:
        self.families: list[Family] = []
        self._mode = mode
        self.requests = self._counter(
            "dispatch_requests",
            "Calls for an agent, by what came of them",
            "result",
            start=("created", "reused", "failed"),
        )
        self.intended = self._counter(
            "dispatches_intended",
            "Decisions to make a dispatch, by their reason",
            "reason",
            start=_REASONS.values(),
        )
        self.created = self._counter("dispatches_created", "Dispatches that LiveKit has made for us")
        self.adopted = self._counter("dispatches_adopted", "Dispatches of others that were taken over")
        self.creation_failures = self._counter(
            "creation_failures", "Creations that failed, all tries included", "code"
        )
        self.replaced = self._counter(
            "dispatches_replaced", "Dispatches that another took over from at once", "reason", start=_REPLACED
        )
        self.restarts = self._counter(
            "restarts", "Agents made anew because theirs was gone", "cause", start=_RESTARTS
        )
        self.ended = self._counter(
            "dispatches_ended", "Dispatches that have ended, by their reason", "reason", start=EndReason
        )
        self.transitions = self._counter("transitions", "Changes of dispatches", "event", "to_state")
        self.cleanups = self._counter(
            "cleanups", "Removals of agents, by what came of them", "result", start=_CLEANUPS.values()
        )
        self.probes = self._counter("probes", "Probes of agents, by their answer", "result")
        self.webhooks = self._counter("webhooks", "Webhooks, the refused ones included", "event", "result")
        self.commit_failures = self._counter("commit_failures", "Commits that the database did not take")
        self.livekit_calls = self._counter("livekit_calls", "Calls to LiveKit", "method", "result")
        self.http_requests = self._counter(
            "http_requests", "Requests, by route template", "method", "route", "status"
        )
        self.alert_posts = self._counter(
            "alert_posts", "Posts to ALERT_WEBHOOK_URL", "result", start=("sent", "failed", "dropped")
        )
        #: Creations that have failed since the last one that did not.
        self.failed_creations_in_a_row = 0
        #: Whether the database has rejected the last commit.
        self.last_commit_failed = False

    def _counter(self, name: str, text: str, *labels: str, start: Iterable[str] = ()) -> Counter[Any]:
        """`start`: values that show 0 from the start: a rate needs something to start from."""
        counts = Counter[Any](dict.fromkeys(start if labels else (ONLY,), 0))
        self.families.append(Family(name, text, labels, lambda: counts))
        return counts

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
            self.adopted[ONLY] += 1
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
            self.created[ONLY] += 1
        if after.state is State.ENDED and after.end_reason:
            self.ended[after.end_reason] += 1
        withheld = event == Event.REMOVED and self._mode.withholds_removal(after.end_reason)
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
            self.commit_failures[ONLY] += 1
            self.last_commit_failed = True
            raise
        self.last_commit_failed = False


class SuppressedActions:
    """What would have been done in `enforce`, each once for each dispatch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        #: In the order in which they came, for the oldest to be forgotten.
        self._noted: dict[tuple[str, str], None] = {}

    def count(self, act: str) -> None:
        """Count an act that comes once by itself."""
        self.counts[act] += 1

    def note(self, act: str, subject: str) -> None:
        """Count an act on a subject: a row, a dispatch or an agent."""
        if (act, subject) in self._noted:
            return
        self.counts[act] += 1
        self._noted[act, subject] = None
        if len(self._noted) > _MOST_NOTED:
            del self._noted[next(iter(self._noted))]
