"""Deployments that fail: noted from what is committed, and passed over for a while.

Each process learns for itself; a row alone already goes from one deployment to the next.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.clock import Clock
from app.control.policies import Policies
from app.lifecycle import SECOND_US, Dispatch, EndReason, Event, State, is_crash_loop
from app.state.changes import Change, Outcome, Transition

logger = logging.getLogger(__name__)

#: How long a deployment that fails is passed over; then one dispatch tries it again.
AVOIDED_US = 300 * SECOND_US
#: Dispatches in a row that brought no agent.
_MISSES = 3
#: An agent that has stayed for so long does not crash at once.
_STAYS_US = 60 * SECOND_US

_CRASHED = (EndReason.AGENT_FAILED, EndReason.AGENT_LEFT)

#: The agent name and the deployment.
Key = tuple[str, str]


class Cause(StrEnum):
    CRASH_LOOP = "crash_loop"
    NEVER_JOINED = "never_joined"


@dataclass(frozen=True, kw_only=True)
class _Failure:
    cause: Cause
    #: When it was last seen.
    at: int
    #: Until when it is passed over.
    until: int


class Deployments:
    """Of agents whose policy lists them; nothing is noted of those that a caller has given."""

    def __init__(self, policies: Policies, clock: Clock) -> None:
        self._policies = policies
        self._clock = clock
        self._misses: Counter[Key] = Counter()
        self._failures: dict[Key, _Failure] = {}
        #: Dispatches since the start, by agent name, deployment and result.
        self.results: Counter[tuple[str, str, str]] = Counter()

    @property
    def avoided(self) -> Mapping[Key, int]:
        """1 for each that is passed over now, 0 for each that was used since the start and is not."""
        now = self._clock.now()
        until = {key: failure.until for key, failure in self._failures.items()}
        return {_label(key): int(until.get(key, now) > now) for key in self._misses.keys() | until.keys()}

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """Note what a commit says; called after each."""
        for transition in outcome.transitions:
            after = transition.after
            if after.terms and after.terms.deployments:
                self._note(transition, outcome.transitions)

    def _note(self, transition: Transition, together: Iterable[Transition]) -> None:
        before, after = transition.before, transition.after
        key, now = _key(after), self._clock.now()
        if before is None:
            self._note_restart(after, together, now)
        if after.state is State.CREATING and (before is None or before.state is not State.CREATING):
            self._note_try(key, now)
        if before is None:
            return
        if after.dispatch_id and not before.dispatch_id:
            self._count(key, "dispatched")
        if after.agent_joined_at is not None and before.agent_joined_at is None:
            self._note_join(key)
        self._note_stay(key, before, now)
        # A relief that no worker takes says that it has no place free, while another agent answers.
        if after.end_reason and not before.end_reason and after.cause != Event.DRAINED:
            self._note_end(key, after.end_reason, now)

    def _note_restart(self, successor: Dispatch, together: Iterable[Transition], now: int) -> None:
        """Note the deployment whose agents have died so often that the lifecycle left it."""
        for transition in together:
            ended = transition.before
            is_own = ended is not None and ended.id == successor.succeeds
            if is_own and transition.after.end_reason in _CRASHED:
                if ended and is_crash_loop(ended, now, self._policies.lifecycle):
                    self._note_failure(_key(ended), Cause.CRASH_LOOP, now)
                return

    def _note_try(self, key: Key, now: int) -> None:
        """One dispatch tries it again: until its outcome is known, others do not."""
        failure = self._failures.get(key)
        if failure and failure.until <= now:
            self._set(key, _Failure(cause=failure.cause, at=failure.at, until=now + AVOIDED_US))

    def _note_join(self, key: Key) -> None:
        self._count(key, "joined")
        self._misses[key] = 0
        failure = self._failures.get(key)
        if failure and failure.cause is Cause.NEVER_JOINED:
            self._note_success(key)

    def _note_stay(self, key: Key, dispatch: Dispatch, now: int) -> None:
        failure, joined_at = self._failures.get(key), dispatch.agent_joined_at
        if failure and joined_at and joined_at >= failure.at and now - joined_at >= _STAYS_US:
            self._note_success(key)

    def _note_end(self, key: Key, reason: EndReason, now: int) -> None:
        if reason is EndReason.NEVER_JOINED:
            self._count(key, "never_joined")
            self._misses[key] += 1
            if self._misses[key] >= _MISSES or key in self._failures:
                self._note_failure(key, Cause.NEVER_JOINED, now)
        elif reason is EndReason.AGENT_FAILED:
            self._count(key, "agent_failed")
            failure = self._failures.get(key)
            if failure and failure.cause is Cause.CRASH_LOOP:
                self._note_failure(key, Cause.CRASH_LOOP, now)

    def _note_failure(self, key: Key, cause: Cause, now: int) -> None:
        if key not in self._failures:
            agent, deployment = key
            logger.warning(
                "Deployment fails; rooms get another one, and it is tried again after a while",
                extra={
                    "action": "deployment",
                    "agent": agent,
                    "deployment": deployment,
                    "reason": cause,
                    "seconds": AVOIDED_US // SECOND_US,
                },
            )
        self._set(key, _Failure(cause=cause, at=now, until=now + AVOIDED_US))

    def _note_success(self, key: Key) -> None:
        agent, deployment = key
        logger.info(
            "Deployment works again",
            extra={"action": "deployment", "agent": agent, "deployment": deployment},
        )
        self._misses[key] = 0
        del self._failures[key]
        self._publish()

    def _set(self, key: Key, failure: _Failure) -> None:
        self._failures[key] = failure
        self._publish()

    def _publish(self) -> None:
        self._policies.avoid({key: failure.until for key, failure in self._failures.items()})

    def _count(self, key: Key, result: str) -> None:
        self.results[*_label(key), result] += 1


def _key(dispatch: Dispatch) -> Key:
    return dispatch.agent_name, dispatch.briefing.deployment


def _label(key: Key) -> Key:
    """As the metrics show it: to Prometheus an empty label is none."""
    agent, deployment = key
    return agent, deployment or "none"
