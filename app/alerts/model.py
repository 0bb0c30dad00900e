"""Alerts: when each is raised and resolved. Pure: figures go in, changes come out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from app.lifecycle import SECOND_US
from app.state.views import AlertFacts
from app.state.workers import AgentFleet

#: An alert is resolved after it has been good for this long, so that it does not flap.
QUIET_US = 60 * SECOND_US


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A problem that an operator has to look at."""

    #: One of a known few, the same in the log, the metric, the post and docs/operations.md.
    name: str
    #: What is wrong, in one sentence, with figures and without names.
    summary: str
    #: What to do; may have several lines.
    advice: str
    since_at: int
    #: A few of the affected rooms, for alerts that are about rooms.
    rooms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AlertChange:
    """An alert was raised or, with `resolved_at`, resolved."""

    alert: Alert
    resolved_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the rules judge by at one moment; counts are since the start of this process."""

    at: int
    #: None: the database could not be read.
    facts: AlertFacts | None
    #: A commit has failed, and none has stored anything since.
    commits_fail: bool
    #: What has happened to the database's file.
    file_problem: str | None
    cleanups: int
    cleanup_failures: int
    log_lines: int
    log_drops: int
    failed_creations_in_a_row: int
    #: The newest join of a person in LiveKit's own lists, by LiveKit's clock.
    newest_join_at: int | None
    #: The workers that report themselves.
    fleet: Sequence[AgentFleet] = ()


class Level(Enum):
    GOOD = auto()  #: resolves the alert, if it stays so
    UNSURE = auto()  #: neither raises nor resolves it
    BAD = auto()  #: raises it


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    level: Level
    summary: str = ""
    rooms: tuple[str, ...] = ()


GOOD, UNSURE = RuleResult(level=Level.GOOD), RuleResult(level=Level.UNSURE)


class Rule(Protocol):
    """One problem that can be detected."""

    name: str
    advice: str

    def judge(self, figures: Figures) -> RuleResult:
        """Called with figures in the order of their time."""


class Alerts:
    """Raises each rule's alert once, and resolves it once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._raised: dict[str, Alert] = {}
        #: Since when it has been good.
        self._good_since: dict[str, int] = {}

    @property
    def names(self) -> Sequence[str]:
        return [rule.name for rule in self._rules]

    def current(self) -> tuple[Alert, ...]:
        """The raised alerts, oldest first."""
        return tuple(sorted(self._raised.values(), key=lambda alert: alert.since_at))

    def look(self, figures: Figures) -> list[AlertChange]:
        """Judge the figures and return the changes."""
        changes = (self._apply(rule, rule.judge(figures), figures.at) for rule in self._rules)
        return [one for one in changes if one]

    def _apply(self, rule: Rule, result: RuleResult, at: int) -> AlertChange | None:
        alert = self._raised.get(rule.name)
        if result.level is not Level.GOOD:
            self._good_since.pop(rule.name, None)
        if alert is None:
            return self._raise(rule, result, at) if result.level is Level.BAD else None
        if result.level is Level.BAD:
            self._raised[rule.name] = replace(alert, summary=result.summary, rooms=result.rooms)
        if result.level is not Level.GOOD:
            return None
        if at - self._good_since.setdefault(rule.name, at) < QUIET_US:
            return None
        del self._raised[rule.name], self._good_since[rule.name]
        return AlertChange(alert=alert, resolved_at=at)

    def _raise(self, rule: Rule, result: RuleResult, at: int) -> AlertChange:
        alert = Alert(
            name=rule.name, summary=result.summary, advice=rule.advice, since_at=at, rooms=result.rooms
        )
        self._raised[rule.name] = alert
        return AlertChange(alert=alert)
