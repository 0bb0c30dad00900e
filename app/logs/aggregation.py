"""Aggregation of repeated lines: the first are written, the rest are counted in one line."""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SECOND_US = 1_000_000

#: A library that puts values into its messages makes any number of kinds; beyond this all are written.
_MOST_KINDS = 1_000

#: An operator follows a dispatch by these, so that they are never aggregated.
LIFECYCLE_ACTIONS = frozenset({"dispatch", "reuse", "transition"})


class Kind(NamedTuple):
    """What repeated lines have in common; their fields may differ."""

    logger: str
    level: int
    sentence: str
    action: str | None


def action_of(record: logging.LogRecord) -> str | None:
    action = getattr(record, "action", None)
    # Another library may use the name for something else.
    return action if isinstance(action, str) else None


def kind_of(record: logging.LogRecord) -> Kind:
    sentence = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    return Kind(record.name, record.levelno, sentence, action_of(record))


@dataclass(kw_only=True)
class Group:
    """The lines of one kind in one window."""

    kind: Kind
    began_at: int
    #: How many more are written as they come.
    to_write: int
    #: Counted since the last report.
    repeated: int = 0

    def record(self, now: int) -> logging.LogRecord:
        """The line that replaces the counted ones."""
        record = logging.LogRecord(
            self.kind.logger, self.kind.level, "", 0, "The same message was logged again", None, None
        )
        vars(record).update(
            action=self.kind.action,
            sentence=self.kind.sentence,
            repeated=self.repeated,
            seconds=round((now - self.began_at) / _SECOND_US),
        )
        return record


class Collapse:
    """One rule: writes `first` lines of each kind in a window, and `later` in a window after repeats."""

    def __init__(self, *, window_s: int, first: int, later: int) -> None:
        self._window_us = window_s * _SECOND_US
        self._first = first
        self._later = later
        #: Ordered by the start of the window.
        self._groups: OrderedDict[Kind, Group] = OrderedDict()

    def keeps(self, kind: Kind, now: int) -> bool:
        """True if this line is to be written; otherwise it is counted."""
        group = self._groups.get(kind)
        if group is None:
            if len(self._groups) < _MOST_KINDS:
                self._groups[kind] = Group(kind=kind, began_at=now, to_write=self._first - 1)
            return True
        if group.to_write:
            group.to_write -= 1
            return True
        group.repeated += 1
        return False

    def due(self, now: int) -> Group | None:
        """The first group with a report whose window is over."""
        while self._groups:
            group = next(iter(self._groups.values()))
            if now - group.began_at < self._window_us:
                return None
            if group.repeated:
                return group
            del self._groups[group.kind]
        return None

    def unreported(self) -> Group | None:
        """Any group with a report, whether its window is over or not."""
        return next((group for group in self._groups.values() if group.repeated), None)

    def begin_anew(self, group: Group, now: int) -> None:
        """Begin the next window of a group that was reported."""
        group.began_at, group.repeated, group.to_write = now, 0, self._later
        self._groups.move_to_end(group.kind)


class Aggregation:
    """The rules: which lines are aggregated, and in what window.

    Out of memory: one line a minute. Connections: the first, then a count every five minutes. Errors and the
    lifecycle: never. Anything else: 20 lines of a kind in ten seconds, then a count.
    """

    _MEMORY = Kind("app", logging.WARNING, "Running out of memory", "memory")

    def __init__(self) -> None:
        self._memory = Collapse(window_s=60, first=1, later=0)
        self._connections = Collapse(window_s=300, first=1, later=0)
        self._repeats = Collapse(window_s=10, first=20, later=20)
        self._all = (self._memory, self._connections, self._repeats)

    def keeps(self, record: logging.LogRecord, now: int) -> bool:
        """True if this line is to be written; otherwise it is counted."""
        kind = kind_of(record)
        if kind.action == "memory" or _is_out_of_memory(record):
            return self._memory.keeps(self._MEMORY, now)
        if kind.level >= logging.ERROR or kind.action in LIFECYCLE_ACTIONS:
            return True
        if kind.action == "connection":
            return self._connections.keeps(kind, now)
        return self._repeats.keeps(kind, now)

    def due(self, now: int) -> Iterator[tuple[Collapse, Group]]:
        """The groups to report; each must be begun anew before the next."""
        for collapse in self._all:
            while group := collapse.due(now):
                yield collapse, group

    def unreported(self) -> Iterator[tuple[Collapse, Group]]:
        for collapse in self._all:
            while group := collapse.unreported():
                yield collapse, group


def _is_out_of_memory(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and isinstance(record.exc_info[1], MemoryError)
