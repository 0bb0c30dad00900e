"""Which deployments are passed over, from what is committed, and for how long."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from app.config.agents import AgentPolicy
from app.control.deployments import AVOIDED_US, Deployments
from app.control.policies import Policies
from app.lifecycle import (
    SECOND_US,
    Briefing,
    Dispatch,
    Event,
    Policy,
    Share,
    Signal,
    State,
    Terms,
)
from app.state.changes import Due, Outcome
from app.state.dispatch_set import DispatchSet
from app.state.presence import Headcount
from fakes.clock import FakeClock

AGENT = "agent"
AVOIDED_S = AVOIDED_US // SECOND_US
CANARY, STABLE, FAILING = (AGENT, "v2"), (AGENT, "v1"), {(AGENT, "v2")}


@dataclass
class Fleet:
    """Rooms whose own deployment is v2, and what is committed of them."""

    clock: FakeClock = field(default_factory=FakeClock)
    listed: tuple[str, ...] = ("v2", "v1")
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        listed = tuple(Share(deployment=one, weight=0 if at else 100) for at, one in enumerate(self.listed))
        policy = AgentPolicy(ttl_s=300, join_timeout_s=15, deployment=listed)
        default = Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US)
        self.policies = Policies({AGENT: policy}, Policy(default=default, interval_us=60 * SECOND_US))
        self.deployments = Deployments(self.policies, self.clock)

    @property
    def avoided(self) -> set[tuple[str, str]]:
        return {key for key, is_avoided in self.deployments.avoided.items() if is_avoided}

    def _unit(self) -> DispatchSet:
        return DispatchSet(
            policy=self.policies.lifecycle,
            now=self.clock.now(),
            new_id=lambda: f"row-{next(self.numbers)}",
            process_id="us",
        )

    def _commit(self, unit: DispatchSet) -> Dispatch:
        outcome = Outcome(transitions=tuple(unit.transitions))
        self.deployments.follow(Due(room_name="room", row_id=""), outcome)
        self.clock.advance(0.001)
        return unit.transitions[-1].after

    def open(self, deployment: str = "", *, people: int = 1) -> Dispatch:
        number = next(self.numbers)
        now, unit = self.clock.now(), self._unit()
        dispatch = Dispatch(
            id=f"row-{number}",
            room_name=f"room-{number}",
            room_sid=f"RM_{number}",
            agent_name=AGENT,
            state=State.CREATING,
            created_at=now,
            last_activity_at=now,
            briefing=Briefing(deployment=deployment),
        )
        unit.open(dispatch, Headcount(people, 0))
        return self._commit(unit)

    def signal(self, dispatch: Dispatch, event: Event) -> Dispatch:
        """Returns what takes over, if anything does."""
        unit = self._unit()
        unit.dispatches[dispatch.id] = dispatch
        signal = Signal(
            event=event,
            dispatch_id=f"AD_{dispatch.id}" if event is Event.DISPATCHED else None,
            agent_identity="agent" if event is Event.AGENT_IN else None,
        )
        assert unit.signal(dispatch, signal)
        return self._commit(unit)

    def join(self, dispatch: Dispatch) -> Dispatch:
        return self.signal(self.signal(dispatch, Event.DISPATCHED), Event.AGENT_IN)

    def miss(self, dispatch: Dispatch) -> Dispatch:
        return self.signal(self.signal(dispatch, Event.DISPATCHED), Event.UNTAKEN)

    def crash_loop(self, dispatch: Dispatch) -> Dispatch:
        for _ in range(1 + Policy.max_restarts):
            dispatch = self.signal(self.join(dispatch), Event.AGENT_LOST)
        return dispatch


def test_a_crash_loop_in_one_room_spares_the_others() -> None:
    fleet = Fleet()
    beside = fleet.join(fleet.open())
    taken_over = fleet.crash_loop(fleet.open())

    assert fleet.avoided == FAILING
    assert taken_over.briefing.deployment == "v1"
    assert fleet.open().briefing.deployment == "v1"
    assert fleet.signal(beside, Event.AGENT_LOST).briefing.deployment == "v1"


def test_three_misses_in_a_row_are_a_failure_two_are_chance() -> None:
    fleet = Fleet()
    for _ in range(2):
        fleet.miss(fleet.open())
    fleet.join(fleet.open())
    for _ in range(2):
        fleet.miss(fleet.open())
    assert fleet.avoided == set()
    fleet.miss(fleet.open())
    assert fleet.avoided == FAILING


def test_one_crash_is_chance_and_so_is_an_agent_that_has_finished() -> None:
    fleet = Fleet()
    for _ in range(5):
        fleet.signal(fleet.join(fleet.open()), Event.AGENT_LOST)
        fleet.signal(fleet.join(fleet.open()), Event.AGENT_LEFT)
        fleet.signal(fleet.join(fleet.open()), Event.REFUTED)
    assert fleet.avoided == set()


def test_after_its_time_one_dispatch_tries_it_and_the_others_wait() -> None:
    fleet = Fleet()
    fleet.crash_loop(fleet.open())
    fleet.clock.advance(AVOIDED_S - 1)
    assert fleet.open().briefing.deployment == "v1"
    fleet.clock.advance(1)
    assert [fleet.open().briefing.deployment for _ in range(3)] == ["v2", "v1", "v1"]
    fleet.clock.advance(AVOIDED_S)
    assert [fleet.open().briefing.deployment for _ in range(3)] == ["v2", "v1", "v1"]


@pytest.mark.parametrize("failure", ["crash loop", "misses"])
def test_a_try_that_fails_is_the_last_for_another_while(failure: str) -> None:
    fleet = Fleet()
    if failure == "misses":
        for _ in range(3):
            fleet.miss(fleet.open())
    else:
        fleet.crash_loop(fleet.open())
    fleet.clock.advance(AVOIDED_S)
    trial = fleet.open()
    fleet.clock.advance(200)
    if failure == "misses":
        fleet.miss(trial)
    else:
        fleet.signal(fleet.join(trial), Event.AGENT_LOST)
    fleet.clock.advance(AVOIDED_S - 1)
    assert fleet.open().briefing.deployment == "v1"
    fleet.clock.advance(1)
    assert fleet.open().briefing.deployment == "v2"


def test_after_misses_an_agent_that_joins_is_enough() -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.miss(fleet.open())
    fleet.clock.advance(AVOIDED_S)
    fleet.join(fleet.open())
    assert fleet.avoided == set()
    assert [fleet.open().briefing.deployment for _ in range(3)] == ["v2"] * 3


def test_after_a_crash_loop_an_agent_has_to_stay() -> None:
    fleet = Fleet()
    fleet.crash_loop(fleet.open())
    fleet.clock.advance(AVOIDED_S)
    joined = fleet.join(fleet.open())
    fleet.clock.advance(59)
    joined = fleet.signal(joined, Event.PEOPLE_OUT)
    assert fleet.avoided == FAILING
    fleet.clock.advance(1)
    fleet.signal(joined, Event.PEOPLE_IN)
    assert fleet.avoided == set()
    assert fleet.open().briefing.deployment == "v2"


def test_an_agent_from_before_the_crash_loop_proves_nothing() -> None:
    fleet = Fleet()
    old = fleet.join(fleet.open())
    fleet.clock.advance(100)
    fleet.crash_loop(fleet.open())
    fleet.signal(old, Event.PEOPLE_OUT)
    assert fleet.avoided == FAILING


def test_where_all_fail_every_room_has_its_own_again() -> None:
    fleet = Fleet()
    for _ in range(6):
        fleet.miss(fleet.miss(fleet.open()))
    assert fleet.avoided == {CANARY, STABLE}
    assert fleet.open().briefing.deployment == "v2"


def test_nothing_is_noted_of_what_a_caller_has_given() -> None:
    fleet = Fleet()
    for _ in range(4):
        fleet.miss(fleet.open("blue"))
        fleet.miss(fleet.open("v2"))
    assert not fleet.deployments.results
    assert fleet.avoided == set()


def test_a_reload_keeps_what_is_known() -> None:
    fleet = Fleet()
    fleet.crash_loop(fleet.open())
    fleet.policies.replace(fleet.policies.agents)
    assert fleet.open().briefing.deployment == "v1"


def test_each_dispatch_counts_for_its_deployment() -> None:
    fleet = Fleet(listed=("v2", ""))
    fleet.signal(fleet.join(fleet.miss(fleet.open())), Event.AGENT_LOST)
    assert fleet.deployments.results == {
        (AGENT, "v2", "dispatched"): 1,
        (AGENT, "v2", "never_joined"): 1,
        (AGENT, "none", "dispatched"): 1,
        (AGENT, "none", "joined"): 1,
        (AGENT, "none", "agent_failed"): 1,
    }
    assert fleet.deployments.avoided == {(AGENT, "v2"): 0, (AGENT, "none"): 0}
