"""A session in random lives, with timers that always fire in time: when it ends, and who is warned of it."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import (
    LIVE_STATES,
    SECOND_US,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Restart,
    Signal,
    State,
    Terms,
    decide,
    due_event,
    open_dispatch,
)
from fakes.dispatches import INTENT, NOW

POLICY = Policy(
    default=Terms(
        ttl_us=3_600 * SECOND_US,
        join_timeout_us=15 * SECOND_US,
        max_session_us=600 * SECOND_US,
        warn_before_us=30 * SECOND_US,
        restart=Restart.ALWAYS,
    ),
    interval_us=60 * SECOND_US,
)


@dataclass
class Life:
    """A dispatch and those that took over from it. Its agents join at once, and hear if they are told to."""

    hears: bool
    now: int = NOW
    row: Dispatch = field(init=False)
    began_at: int | None = None
    #: When each row's agent was warned, by the row's id.
    warned_at: dict[str, list[int]] = field(default_factory=dict)
    #: When each row's agent came, and until when it stayed.
    stays: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        intent = replace(INTENT, id="row-0", created_at=self.now, last_activity_at=self.now)
        self.row = open_dispatch(intent, self.now, POLICY)
        self._create()

    def apply(self, event: Event, people: int | None = None) -> None:
        successor_id = f"row-{int(self.row.id.split('-')[1]) + 1}"
        signal = Signal(event=event, people=people, agent_identity="agent-AJ", successor_id=successor_id)
        decision = decide(self.row, signal, self.now, POLICY)
        self.row = decision.dispatch
        if self.row.state in (State.ACTIVE, State.IDLE):
            came_at, _ = self.stays.get(self.row.id, (self.now, 0))
            self.stays[self.row.id] = (came_at, self.now)
            self.began_at = self.began_at or self.now
        for effect in decision.effects:
            if effect is Effect.WARN:
                self.warned_at.setdefault(self.row.id, []).append(self.now)
                if self.hears:
                    self.apply(Event.WARNED)
        if decision.successor:
            self.row = decision.successor
        self._create()

    def pass_time(self, us: int) -> None:
        until = self.now + us
        while self.is_live and self.row.due_at is not None and self.row.due_at <= until:
            self.now = max(self.now, self.row.due_at)
            event = due_event(self.row, self.now)
            assert event is not None
            self.apply(event)
        self.now = until
        if self.row.id in self.stays and self.row.state in (State.ACTIVE, State.IDLE):
            self.stays[self.row.id] = (self.stays[self.row.id][0], self.now)

    @property
    def is_live(self) -> bool:
        return self.row.state in LIVE_STATES

    def _create(self) -> None:
        if self.row.state is State.CREATING:
            self.row = replace(self.row, dispatch_id="AD_1")
            self.apply(Event.DISPATCHED)
            self.apply(Event.AGENT_IN)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [(Event.PEOPLE_IN, 1), (Event.PEOPLE_OUT, 0), (Event.AGENT_LOST, None), (Event.REFUTED, None)]
        ),
        st.integers(0, 200).map(lambda seconds: seconds * SECOND_US),
    ),
    max_size=20,
)


@given(steps=STEPS, hears=st.booleans())
def test_a_session_ends_in_time_whoever_is_in_and_however_often_its_agent_is_replaced(
    steps: list[tuple[tuple[Event, int | None], int]],
    hears: bool,  # noqa: FBT001 - hypothesis passes it by name
) -> None:
    life = Life(hears=hears)
    life.apply(Event.PEOPLE_IN, 1)
    for (event, people), passed_us in steps:
        if life.is_live:
            life.apply(event, people)
        life.pass_time(passed_us)
    life.pass_time(600 * SECOND_US)

    assert life.row.end_reason is EndReason.MAX_SESSION
    assert life.began_at is not None
    ends_at = life.began_at + 600 * SECOND_US
    assert max(until for _, until in life.stays.values()) <= ends_at
    for row_id, (came_at, until) in life.stays.items():
        warnings = life.warned_at.get(row_id, [])
        due_at = max(came_at, ends_at - 30 * SECOND_US)
        if until > due_at:
            assert warnings, "it was in when the warning was due"
        assert len(warnings) <= (1 if hears else 30 // 5 + 1)
        assert all(due_at <= at < ends_at for at in warnings)
