"""The counters of this process, which metrics, alerts and the dashboard read."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from app.errors import AtCapacity, DatabaseUnavailable, LiveKitTimeout, ServiceError
from app.lifecycle import SECOND_US, Dispatch, EndReason, Event, State
from app.lifecycle.mode import Mode
from app.lifecycle.usage import TimeKind, accrued
from app.lifecycle.warm import WarmAgent
from app.metrics.collector import ONLY, Family
from app.state.changes import RoomEventKind, Transition
from app.state.deliveries import receiver_label

#: Why a dispatch is to be created, by the event that decided it.
_REASONS = {
    "intent": "request",
    Event.REUSED: "request",
    Event.RESUMED: "request",
    Event.REFUTED: "replacement",
    Event.AGENT_LEFT: "restart",
    Event.AGENT_LOST: "restart",
    Event.MISSING: "restart",
    Event.UNTAKEN: "retry",
    Event.JOIN_OVERDUE: "retry",
    Event.RETRY_DUE: "retry",
    Event.DRAINED: "relief",
    Event.PEOPLE_IN: "arrival",
    Event.REMOVED: "comeback",
}
_RESTARTS = tuple(sorted(event for event, reason in _REASONS.items() if reason == "restart"))
_REPLACED = (Event.REFUTED, Event.UNTAKEN, Event.JOIN_OVERDUE, *_RESTARTS, Event.REMOVED)
#: Far more than the dispatches that are open at once; a forgotten one would be counted again.
_MOST_NOTED = 10_000
_CLAIM_RESULTS = ("claimed", "refused", "unknown", "silent", "unsupported", "none_waiting", "failed")
_CLEANUPS = {Event.REMOVED: "removed", Event.REMOVE_FAILED: "failed", Event.OCCUPIED: "occupied"}


class Counters:
    """Each line below is a metric: a Counter by the values of its labels."""

    def __init__(
        self, *, mode: Mode, agent_names: Collection[str] = (), event_endpoints: Collection[str] = ()
    ) -> None:
        self.families: list[Family] = []
        self._mode = mode
        self.requests = self._counter(
            "dispatch_requests",
            "Requests for an agent, by result",
            "result",
            start=("created", "reused", "on_hold", "at_capacity", "failed"),
        )
        self.warm_claims = self._counter(
            "warm_claims",
            "Dispatches that wanted a warm agent, by what became of it",
            "agent",
            "result",
            start=product(agent_names, _CLAIM_RESULTS),
        )
        self.refused = self._counter(
            "capacity_refusals", "Requests refused for a limit of the agent's policy", "agent", "cap"
        )
        self.intended = self._counter(
            "dispatches_intended",
            "Decisions to create a dispatch, by reason",
            "reason",
            start=_REASONS.values(),
        )
        self.created = self._counter(
            "dispatches_created", "Dispatches that LiveKit has created for the service"
        )
        self.adopted = self._counter("dispatches_adopted", "Dispatches of others that were adopted")
        self.creation_failures = self._counter(
            "creation_failures", "Creations that failed after all attempts, by code", "code"
        )
        self.replaced = self._counter(
            "dispatches_replaced",
            "Dispatches that were replaced at once, by reason",
            "reason",
            start=_REPLACED,
        )
        self.restarts = self._counter(
            "restarts", "Agents restarted because theirs was gone", "cause", start=_RESTARTS
        )
        self.ended = self._counter(
            "dispatches_ended", "Dispatches that have ended, by reason", "reason", start=EndReason
        )
        self.transitions = self._counter("transitions", "Changes of dispatches", "event", "to_state")
        self.cleanups = self._counter(
            "cleanups", "Removals of agents, by result", "result", start=_CLEANUPS.values()
        )
        #: In microseconds, so that sums are exact.
        self._times_us = Counter[tuple[str, str]](dict.fromkeys(product(agent_names, TimeKind), 0))
        self.families.append(
            Family(
                "agent_seconds",
                "Time of dispatches, by what it was spent on",
                ("agent", "kind"),
                lambda: {key: time_us / SECOND_US for key, time_us in self._times_us.items()},
            )
        )
        self.probes = self._counter("probes", "Probes of agents, by answer", "result")
        self.returns = self._counter("returns", "People who came back to an agent", "agent", "result")
        self.webhooks = self._counter("webhooks", "Webhooks, including rejected ones", "event", "result")
        self.webhook_ways = self._counter(
            "webhook_ways",
            "Requests with webhooks, by the way in which they were read",
            "way",
            start=("short", "long"),
        )
        self.commit_failures = self._counter("commit_failures", "Commits that failed in the database")
        self.livekit_calls = self._counter("livekit_calls", "Calls to LiveKit", "method", "result")
        self.http_requests = self._counter(
            "http_requests", "Requests, by route template", "method", "route", "status"
        )
        self.room_conflicts = self._counter(
            "room_conflicts",
            "Webhooks that contradict LiveKit about the instance of a room, by kind",
            "kind",
            start=RoomEventKind,
        )
        self.ignored_fields = self._counter(
            "token_ignored_fields",
            "Token requests with fields that this version does not know, by place",
            "place",
            start=("body", "room_config"),
        )
        self.memory_operations = self._counter(
            "memory_operations",
            "What was asked of memories of conversations, by result",
            "operation",
            "result",
        )
        self.alert_posts = self._counter(
            "alert_posts", "Posts to ALERT_WEBHOOK_URL", "result", start=("sent", "failed", "dropped")
        )
        self.event_deliveries = self._counter(
            "event_deliveries",
            "Deliveries of events to EVENT_WEBHOOKS, by result",
            "receiver",
            "result",
            start=product(map(receiver_label, event_endpoints), ("delivered", "failed", "given_up")),
        )
        #: Creations that have failed since the last success.
        self.failed_creations_in_a_row = 0

    def _counter(
        self, name: str, text: str, *labels: str, start: Iterable[str | tuple[str, ...]] = ()
    ) -> Counter[Any]:
        """`start`: label values that show 0 at first, since a rate needs a start."""
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

    def note_warm_end(self, agent: WarmAgent) -> None:
        """Count the time of a warm agent that does not wait any more."""
        waited_us = (agent.waited_until or agent.created_at) - agent.created_at
        self._times_us[agent.agent_name, TimeKind.WARM] += max(0, waited_us)

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
        kind, time_us = accrued(before, after)
        if kind:
            self._times_us[after.agent_name, kind] += time_us
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
        """Count a request for an agent with the result that is passed to what it yields, else as failed."""
        results = ["failed"]
        try:
            yield results.append
        except AtCapacity:
            results.append(AtCapacity.code)
            raise
        finally:
            self.requests[results[-1]] += 1

    @contextmanager
    def creation(self) -> Iterator[None]:
        """Count a creation that fails after all attempts, also in a row."""
        try:
            yield
        except (ServiceError, asyncio.CancelledError) as error:
            # Cancelled: LiveKit was too slow for the creation.
            code = error.code if isinstance(error, ServiceError) else LiveKitTimeout.code
            self.creation_failures[code] += 1
            self.failed_creations_in_a_row += 1
            raise
        self.failed_creations_in_a_row = 0

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Count a commit that fails in the database."""
        try:
            yield
        except DatabaseUnavailable:
            self.commit_failures[ONLY] += 1
            raise


class SuppressedActions:
    """Actions that `enforce` would have done, each counted once for each dispatch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        #: In the order of arrival: the oldest is forgotten first.
        self._noted: dict[tuple[str, str], None] = {}

    def count(self, act: str) -> None:
        """Count an action that happens once."""
        self.counts[act] += 1

    def note(self, act: str, subject: str) -> None:
        """Count an action on a row, a dispatch or an agent, unless it was counted already."""
        if (act, subject) in self._noted:
            return
        self.counts[act] += 1
        self._noted[act, subject] = None
        if len(self._noted) > _MOST_NOTED:
            del self._noted[next(iter(self._noted))]
