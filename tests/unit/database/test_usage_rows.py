"""The ledger adds up: over restarts, replicas, clocks that jump, and whatever happens to dispatches."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.database.usage import usage_rows
from app.lifecycle import SECOND_US, Dispatch, Event, Policy, Signal, State, Terms
from app.lifecycle.days import DAY_US, by_day
from app.lifecycle.usage import TimeKind, kind_of
from app.state.dispatch_set import DispatchSet
from app.state.presence import Headcount
from fakes.dispatches import INTENT

NOW = 1_700_000_000_000_000
POLICY = Policy(
    default=Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US), interval_us=60 * SECOND_US
)
#: Those that bring a dispatch on are drawn more often than those that may end it.
EVENTS = [
    *Event,
    *[Event.DISPATCHED, Event.AGENT_IN, Event.PEOPLE_IN, Event.PEOPLE_OUT, Event.RESUMED] * 6,
    *[Event.HOLD_REQUESTED, Event.AGENT_LOST, Event.REMOVED] * 3,
]


@dataclass(frozen=True)
class Step:
    event: Event
    people: int
    #: By the clock of the process that takes it.
    at: int


@dataclass
class Rows:
    """The tables; each change is made by a process that knows nothing else."""

    dispatches: dict[str, Dispatch] = field(default_factory=dict)
    #: By day and row, in the order of the table's columns.
    ledger: defaultdict[tuple[int, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    #: Until a resume, `created_at` is the same.
    opened_at: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    ids: Iterator[int] = field(default_factory=count)
    #: What a watch would have measured that looks before every change.
    watched: defaultdict[str, Counter[TimeKind | None]] = field(default_factory=lambda: defaultdict(Counter))
    watched_at: int = NOW

    def call(self, now: int) -> None:
        """Open a dispatch if there is none."""
        fresh = replace(INTENT, id=f"called-{next(self.ids)}", created_at=now, last_activity_at=now)
        dispatch_set = self._process(now)
        if not dispatch_set.dispatches:
            dispatch_set.open(fresh, Headcount())
            self._save(dispatch_set)

    def take(self, step: Step) -> None:
        for row in self.dispatches.values():
            if row.state is not State.ENDED:
                self.watched[row.id][kind_of(row)] += step.at - self.watched_at
        self.watched_at = step.at
        self.call(step.at)
        dispatch_set = self._process(step.at)
        # The people of the room are those of all its dispatches; everything else is about the last one.
        people = step.people if step.event is Event.PEOPLE_IN else 0
        signal = Signal(
            event=step.event,
            people=people if step.event in (Event.PEOPLE_IN, Event.PEOPLE_OUT) else None,
            agent_identity="agent-AJ_1" if step.event is Event.AGENT_IN else None,
            dispatch_id=f"AD_{len(self.dispatches)}" if step.event is Event.DISPATCHED else None,
        )
        if signal.people is None:
            dispatch_set.signal(list(dispatch_set.dispatches.values())[-1], signal)
        else:
            dispatch_set.signal_room("RM_1", signal)
        self._save(dispatch_set)

    def _process(self, now: int) -> DispatchSet:
        rows = {row.id: row for row in self.dispatches.values() if row.state is not State.ENDED}
        return DispatchSet(
            policy=POLICY,
            now=now,
            new_id=lambda: f"next-{next(self.ids)}",
            process_id="process",
            dispatches=rows,
        )

    def _save(self, dispatch_set: DispatchSet) -> None:
        for day, row_id, _, _, *times_us, reason in usage_rows(dispatch_set.transitions):
            self._add(day, row_id, times_us)
            self.reasons.update([reason] if reason else [])
        self.dispatches |= dispatch_set.dispatches
        for row_id in dispatch_set.dispatches:
            self.opened_at.setdefault(row_id, dispatch_set.now)

    def _add(self, day: int, row_id: str, times_us: Sequence[Any]) -> None:
        assert all(part_us >= 0 for part_us in times_us)
        self.ledger[day, row_id].update(dict(zip(TimeKind, times_us, strict=True)))

    def spent(self, row_id: str) -> Counter[str]:
        parts = [times_us for (_, of), times_us in self.ledger.items() if of == row_id]
        return sum(parts, Counter())


#: A day and more in all, most of the time.
LENGTHS = st.integers(0, 6 * 3_600 * SECOND_US)


def steps(lengths: st.SearchStrategy[int]) -> st.SearchStrategy[list[Step]]:
    """Steps of these lengths, each from the time of the one before."""
    drawn = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 2), lengths), min_size=20, max_size=40)

    def timed(parts: list[tuple[Event, int, int]]) -> list[Step]:
        at, made = NOW, []
        for event, people, length_us in parts:
            at += length_us
            made.append(Step(event, people, at))
        return made

    return drawn.map(timed)


def run(taken: list[Step]) -> Rows:
    rows = Rows()
    for event in (Event.DISPATCHED, Event.AGENT_IN):
        rows.take(Step(event, 0, NOW))
    for step in taken:
        rows.take(step)
    return rows


@settings(max_examples=60)
@given(steps(LENGTHS))
def test_the_sums_are_exact(taken: list[Step]) -> None:
    """What is in the ledger and what still runs is what a watch measures, of each kind."""
    rows = run(taken)
    for row in rows.dispatches.values():
        spent, kind = rows.spent(row.id), kind_of(row)
        if kind:
            spent.update({kind: rows.watched_at - (row.accounted_at or 0)})
        watched = rows.watched[row.id]
        free_us = watched.pop(None, 0)
        assert +spent == +watched
        until_at = row.ended_at or rows.watched_at
        assert spent.total() + free_us == until_at - rows.opened_at[row.id]
        parts = [part_us for _, part_us in by_day(rows.opened_at[row.id], until_at)]
        assert len([of for _, of in rows.ledger if of == row.id]) <= len(parts) + 1
    assert rows.reasons.total() == sum(row.state is State.ENDED for row in rows.dispatches.values())


@settings(max_examples=60)
@given(steps(st.integers(-12 * 3_600 * SECOND_US, 15 * 3_600 * SECOND_US)))
def test_no_clock_counts_a_moment_twice(taken: list[Step]) -> None:
    """Each step is of a process with a clock of its own, hours before or after the others."""
    rows = run(taken)
    last_at = max([NOW, *(step.at for step in taken)])
    for row in rows.dispatches.values():
        assert row.accounted_at is not None
        assert row.accounted_at <= last_at
        assert row.ended_at is None or row.ended_at <= row.accounted_at
    for (_, row_id), times_us in rows.ledger.items():
        assert times_us.total() <= DAY_US
        assert rows.spent(row_id).total() <= max(0, last_at - rows.opened_at[row_id])


@settings(max_examples=60)
@given(steps(LENGTHS), st.integers(0, 40), st.integers(-12 * 3_600, 12 * 3_600))
def test_a_jump_of_the_clock_costs_its_length_at_most(taken: list[Step], after: int, jump_s: int) -> None:
    """A restart with another wall clock: the steps from then on are that much later or earlier."""
    jumped = [
        replace(step, at=step.at + (jump_s * SECOND_US if number >= after else 0))
        for number, step in enumerate(taken)
    ]
    rows, true = run(jumped), run(taken)
    for row_id in true.dispatches:
        differs_us = rows.spent(row_id).total() - true.spent(row_id).total()
        assert abs(differs_us) <= abs(jump_s) * SECOND_US
