"""Which absences of people count as returns, and that each counts once."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lifecycle import SECOND_US, Dispatch, Event, Policy, Signal, State, Terms
from app.lifecycle.returns import Return, bucket_of
from app.state.changes import Due
from app.state.dispatch_set import DispatchSet
from app.state.presence import Headcount

TTL_S, PHONE_S = 60, 5
TERMS = Terms(ttl_us=TTL_S * SECOND_US, join_timeout_us=15 * SECOND_US)
WITH_PHONES = replace(TERMS, phone_ttl_us=PHONE_S * SECOND_US)
NOBODY, ONE, CALLER = Headcount(), Headcount(1), Headcount(1, 1)


@dataclass
class Scene:
    """One room with one agent name, in one batch."""

    terms: Terms = TERMS
    ids: "itertools.count[int]" = field(default_factory=itertools.count)
    people: Headcount = NOBODY

    def __post_init__(self) -> None:
        policy = Policy(default=self.terms, interval_us=60 * SECOND_US)
        self.set = DispatchSet(policy=policy, now=1_000 * SECOND_US, new_id=self._id, process_id="me")

    def _id(self) -> str:
        return str(next(self.ids))

    @property
    def live(self) -> Dispatch | None:
        return self.set.live("room", "agent")

    @property
    def returns(self) -> list[tuple[int | None, bool]]:
        return [(one.bucket, one.is_kept) for one in self.set.returns]

    def call(self, dispatch_id: str | None = None) -> None:
        """A caller wants an agent, or another program has made one."""
        if self.live:
            self.tell(Event.REUSED)
            return
        fresh = Dispatch(
            id=self._id(),
            dispatch_id=dispatch_id,
            room_name="room",
            room_sid="RM_1",
            agent_name="agent",
            state=State.CREATING,
            created_at=self.set.now,
            last_activity_at=self.set.now,
        )
        self.set.open(fresh, self.people)
        self.arrive()

    def arrive(self) -> None:
        """The agent comes."""
        self.tell(Event.DISPATCHED)
        if self.live:
            self.set.signal(self.live, Signal(event=Event.AGENT_IN, agent_identity=f"agent-{self.live.id}"))

    def count(self, people: Headcount) -> None:
        self.people = people
        self.set.signal_people("RM_1", people)

    def tell(self, event: Event) -> None:
        if self.live:
            self.set.signal(self.live, Signal(event=event))

    def wait(self, seconds: float) -> None:
        self.set.now += round(seconds * SECOND_US)

    def due(self) -> None:
        for row in list(self.set.dispatches.values()):
            self.set.act(Due(room_name="room", row_id=row.id))

    def finish(self, event: Event = Event.REMOVED, people: int | None = None) -> None:
        """LiveKit's answer to the removal of what is ending."""
        for row in self.set.of_room("RM_1"):
            if row.state is State.ENDING:
                self.set.signal(row, Signal(event=event, people=people))

    def visit(self, people: Headcount = ONE) -> None:
        self.call()
        self.count(people)
        self.wait(100)
        self.count(NOBODY)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.visit()
    return scene


def kept(seconds: float) -> tuple[int | None, bool]:
    return bucket_of(round(seconds * SECOND_US)), True


def lost(seconds: float) -> tuple[int | None, bool]:
    return bucket_of(round(seconds * SECOND_US)), False


def expire(scene: Scene) -> None:
    scene.wait(TTL_S)
    scene.due()


def test_who_comes_back_within_the_ttl_has_kept_the_agent(scene: Scene) -> None:
    assert scene.returns == [], "the first visit is no return"
    scene.wait(20)
    scene.count(ONE)
    scene.count(Headcount(2))
    scene.wait(100)
    scene.count(NOBODY)
    scene.wait(40)
    scene.count(ONE)

    assert scene.returns == [kept(20), kept(40)]
    assert scene.set.returns[0] == Return(
        agent_name="agent", bucket=bucket_of(20 * SECOND_US) or 0, is_kept=True
    )


def test_a_call_after_the_ttl_has_lost_it(scene: Scene) -> None:
    expire(scene)
    scene.finish()
    scene.wait(540)
    scene.call()
    scene.count(ONE)

    assert scene.returns == [lost(600)]


def test_a_call_while_the_agent_is_removed_has_lost_it(scene: Scene) -> None:
    expire(scene)
    scene.wait(1)
    scene.call()
    scene.count(ONE)
    scene.finish()

    assert scene.returns == [lost(61)]


@pytest.mark.parametrize("event", [Event.REMOVED, Event.OCCUPIED])
def test_who_joins_while_it_is_removed_counts_once(scene: Scene, event: Event) -> None:
    expire(scene)
    scene.wait(1)
    scene.count(ONE)
    scene.finish(event, people=1)

    assert scene.live is not None
    assert scene.returns == [lost(61)]


def test_whom_livekit_sees_before_the_removal_has_kept_it(scene: Scene) -> None:
    """The webhook of the join comes later."""
    expire(scene)
    scene.finish(Event.OCCUPIED, people=0)
    scene.count(ONE)

    assert scene.returns == [kept(TTL_S)]


@pytest.mark.parametrize("event", [Event.END_REQUESTED, Event.AGENT_LEFT, Event.SUPERSEDED])
def test_only_the_ttl_loses_an_agent(scene: Scene, event: Event) -> None:
    scene.tell(event)
    scene.finish()
    scene.wait(10)
    scene.call()
    scene.count(ONE)

    assert scene.returns == []


def test_an_agent_that_nobody_met_is_not_lost() -> None:
    scene = Scene()
    scene.call()
    expire(scene)
    scene.finish()
    scene.call()

    assert scene.returns == []


def test_a_replaced_agent_keeps_the_absence(scene: Scene) -> None:
    scene.wait(10)
    scene.tell(Event.REFUTED)
    scene.arrive()
    scene.finish()
    scene.wait(10)
    scene.count(ONE)

    assert scene.returns == [kept(20)]


def test_nobody_returns_to_an_agent_on_hold(scene: Scene) -> None:
    scene.tell(Event.HOLD_REQUESTED)
    scene.finish()
    scene.count(ONE)
    scene.tell(Event.RESUMED)

    assert scene.returns == []


@pytest.mark.parametrize(("people", "expected"), [(ONE, [lost(600)]), (NOBODY, [])])
def test_an_adopted_agent_is_a_return_if_somebody_is_in(
    scene: Scene, people: Headcount, expected: Sequence[tuple[int, bool]]
) -> None:
    expire(scene)
    scene.finish()
    scene.wait(540)
    scene.people = people
    scene.call("AD_of_others")

    assert scene.returns == expected


@pytest.mark.parametrize(
    ("terms", "people", "expected"),
    [(TERMS, CALLER, [kept(3)]), (WITH_PHONES, ONE, [kept(3)]), (WITH_PHONES, CALLER, [])],
)
def test_callers_by_telephone_count_unless_they_have_a_ttl_of_their_own(
    terms: Terms, people: Headcount, expected: Sequence[tuple[int, bool]]
) -> None:
    scene = Scene(terms)
    scene.visit(people)
    scene.wait(3)
    scene.count(ONE)

    assert scene.returns == expected


TOLD = (
    Event.REUSED,
    Event.REFUTED,
    Event.AGENT_LOST,
    Event.AGENT_LEFT,
    Event.MISSING,
    Event.UNTAKEN,
    Event.END_REQUESTED,
    Event.SUPERSEDED,
    Event.DUPLICATE,
    Event.HOLD_REQUESTED,
    Event.RESUMED,
    Event.SESSION_OVER,
)
STEPS: Mapping[str, Callable[[Scene], None]] = {
    "call": Scene.call,
    "adopt": lambda scene: scene.call("AD_of_others"),
    "arrive": Scene.arrive,
    "join": lambda scene: scene.count(ONE),
    "leave": lambda scene: scene.count(NOBODY),
    "due": Scene.due,
    "expire": expire,
    "removed": Scene.finish,
    "occupied": lambda scene: scene.finish(Event.OCCUPIED, scene.people.people),
    "failed": lambda scene: scene.finish(Event.REMOVE_FAILED),
    **{event.value: partial(Scene.tell, event=event) for event in TOLD},
}


#: What most of the cases below are made of.
OFTEN = ("call", "join", "leave", "expire", "removed") * 3


@settings(max_examples=500)
@given(st.lists(st.sampled_from((*OFTEN, *STEPS)), max_size=30))
def test_no_absence_counts_twice_whatever_happens(steps: list[str]) -> None:
    scene = Scene()
    left_at = None
    for step in ["call", "join", *steps]:
        scene.wait(7)
        before, people = len(scene.returns), scene.people
        STEPS[step](scene)
        if people.people and not scene.people.people:
            left_at = scene.set.now
        came = scene.returns[before:]
        assert len(came) <= 1
        if came:
            assert left_at is not None, "one absence has counted twice"
            ((bucket, is_kept),) = came
            absence = bucket_of(scene.set.now - left_at)
            # Somebody who was in while the room had no agent left nothing alone.
            assert bucket == absence if is_kept else bucket and absence and bucket >= absence
            left_at = None
