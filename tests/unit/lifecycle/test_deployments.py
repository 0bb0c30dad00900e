"""Deployments: which rooms each one gets, what takes its place when it fails, and what is left alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lifecycle import (
    SECOND_US,
    UNTOLD,
    Briefing,
    Dispatch,
    Event,
    Policy,
    Restart,
    Share,
    Signal,
    State,
    Terms,
    decide,
    open_dispatch,
)
from app.lifecycle.terms import WHOLE, order_for_room
from fakes.dispatches import INTENT, NOW

TERMS = Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US, restart=Restart.ON_FAILURE)
CANARY = (Share(deployment="v2", weight=10), Share(deployment="v1", weight=90))
BARE = Policy(default=TERMS, interval_us=60 * SECOND_US)
POLICY = replace(BARE, shares={"agent": CANARY})
WANTED = replace(INTENT, participant_count=1)
LOST, UNTAKEN = Signal(event=Event.AGENT_LOST), Signal(event=Event.UNTAKEN)
AGENT_IN = Signal(event=Event.AGENT_IN, agent_identity="agent-AJ_1")
DISPATCHED = Signal(event=Event.DISPATCHED, dispatch_id="AD_1", dispatched_at=NOW)

names = st.lists(st.sampled_from(("", "v1", "v2", "v3", "v4")), min_size=1, max_size=5, unique=True)


@st.composite
def shares(draw: st.DrawFn) -> tuple[Share, ...]:
    listed = draw(names)
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(listed) - 1, max_size=len(listed) - 1)))
    weights = [b - a for a, b in pairwise((0, *cuts, 100))]
    return tuple(Share(deployment=name, weight=weight) for name, weight in zip(listed, weights, strict=True))


def of(deployments: Sequence[str], policy: Policy = BARE) -> Policy:
    """The policy whose rooms all have this order."""
    listed = tuple(Share(deployment=one, weight=0 if at else WHOLE) for at, one in enumerate(deployments))
    return replace(policy, shares={"agent": listed})


def failing(*deployments: str, until: int = NOW + 1) -> dict[tuple[str, str], int]:
    return {("agent", deployment): until for deployment in deployments}


def successor_of(dispatch: Dispatch, signal: Signal, policy: Policy, now: int = NOW) -> Dispatch:
    made = decide(dispatch, replace(signal, successor_id="next"), now, policy).successor
    assert made is not None
    return made


def arrived(dispatch: Dispatch, policy: Policy, now: int = NOW) -> Dispatch:
    """With its agent in."""
    signals = [DISPATCHED, AGENT_IN]
    if dispatch.state is State.UNAVAILABLE:
        signals.insert(0, Signal(event=Event.RETRY_DUE))
    for signal in signals:
        dispatch = decide(dispatch, signal, now, policy).dispatch
    assert dispatch.state is State.ACTIVE
    return dispatch


def untaken(dispatch: Dispatch, policy: Policy) -> Dispatch:
    """What takes over when no worker takes it."""
    if dispatch.state is State.UNAVAILABLE:
        dispatch = decide(dispatch, Signal(event=Event.RETRY_DUE), NOW, policy).dispatch
    return successor_of(decide(dispatch, DISPATCHED, NOW, policy).dispatch, UNTAKEN, policy)


# The split


@given(listed=shares(), salt=st.integers(0, 2**32))
def test_each_deployment_gets_its_share_of_the_rooms(listed: tuple[Share, ...], salt: int) -> None:
    count = 1_000
    own = Counter(order_for_room(f"{salt}-{number}", listed)[0] for number in range(count))
    for share in listed:
        part = share.weight / WHOLE
        # 6 sigma: once in a thousand million runs it is chance. Of a tiny share, one room is many sigma.
        assert abs(own[share.deployment] - part * count) <= 6 * (part * (1 - part) * count) ** 0.5 + 6


@given(room=st.text(), listed=shares())
def test_the_order_of_a_room_has_every_deployment_once_and_is_always_the_same(
    room: str, listed: tuple[Share, ...]
) -> None:
    order = order_for_room(room, listed)
    assert sorted(order) == sorted(share.deployment for share in listed)
    assert order == order_for_room(room, listed)
    assert [one for one in order[1:] if one != order[0]] == [
        share.deployment for share in listed if share.deployment != order[0]
    ]


@given(room=st.text(), listed=shares(), data=st.data())
def test_a_weight_that_grows_gives_no_room_away(
    room: str, listed: tuple[Share, ...], data: st.DataObject
) -> None:
    """What it gains, those after it lose: as when a canary is raised."""
    at = data.draw(st.integers(0, len(listed) - 1))
    gain = data.draw(st.floats(0, sum(share.weight for share in listed[at + 1 :])))
    grown = list(listed)
    grown[at] = replace(listed[at], weight=listed[at].weight + gain)
    for later in range(at + 1, len(grown)):
        taken = min(gain, grown[later].weight)
        grown[later] = replace(grown[later], weight=grown[later].weight - taken)
        gain -= taken
    before, after = order_for_room(room, listed)[0], order_for_room(room, grown)[0]
    kept = [share.deployment for share in listed[: at + 1]]
    if before in kept:
        assert after == before


def test_a_room_name_that_is_no_utf_8_has_a_place_too() -> None:
    assert len(order_for_room("\ud800", CANARY)) == 2


# The choice


def test_a_new_dispatch_is_for_the_deployment_of_its_room() -> None:
    for number in range(50):
        room = f"room-{number}"
        opened = open_dispatch(replace(WANTED, room_name=room), NOW, POLICY)
        assert opened.terms is not None
        order = order_for_room(room, CANARY)
        assert (opened.briefing.deployment, opened.terms.deployments) == (order[0], order)


@pytest.mark.parametrize(("now", "chosen"), [(NOW, "v1"), (NOW + 1, "v2")])
def test_a_failing_deployment_is_passed_over_until_its_time_is_over(now: int, chosen: str) -> None:
    policy = replace(of(("v2", "v1")), failing=failing("v2"))
    assert open_dispatch(WANTED, now, policy).briefing.deployment == chosen
    assert (
        successor_of(
            arrived(open_dispatch(WANTED, NOW, of(("v2", "v1"))), policy), LOST, policy, now
        ).briefing.deployment
        == chosen
    )


def test_where_all_fail_a_room_has_its_own() -> None:
    policy = replace(of(("v2", "v1")), failing=failing("v1", "v2"))
    assert open_dispatch(WANTED, NOW, policy).briefing.deployment == "v2"


def test_an_agent_without_deployments_is_dispatched_to_workers_without_one() -> None:
    opened = open_dispatch(WANTED, NOW, replace(BARE, failing=failing("")))
    assert opened.briefing == UNTOLD
    assert untaken(opened, BARE).briefing == UNTOLD


# What takes over


@given(order=names, is_failing=st.sets(st.sampled_from(("", "v1", "v2", "v3", "v4"))))
def test_as_long_as_nobody_takes_it_every_deployment_that_works_is_tried_in_turn(
    order: list[str], is_failing: set[str]
) -> None:
    policy = replace(of(order), failing=failing(*is_failing))
    working = [one for one in order if one not in is_failing] or order
    dispatch, tried = open_dispatch(WANTED, NOW, policy), []
    for _ in working:
        tried.append(dispatch.briefing.deployment)
        dispatch = untaken(dispatch, policy)
    assert tried == working


def test_a_successor_has_the_deployment_of_its_predecessor_not_the_first_one() -> None:
    policy = of(("v2", "v1"))
    fallen_back = untaken(open_dispatch(WANTED, NOW, policy), policy)
    assert fallen_back.briefing.deployment == "v1"
    assert successor_of(arrived(fallen_back, policy), LOST, policy).briefing.deployment == "v1"


def test_after_a_crash_loop_the_next_deployment_takes_over() -> None:
    policy = of(("v2", "v1"))
    dispatch, used = open_dispatch(WANTED, NOW, policy), []
    for _ in range(policy.max_restarts + 2):
        used.append(dispatch.briefing.deployment)
        dispatch = successor_of(arrived(dispatch, policy), LOST, policy)
        assert dispatch.state is State.CREATING
    assert used == ["v2"] * (policy.max_restarts + 1) + ["v1"]


def test_after_a_crash_loop_no_deployment_that_fails_takes_over() -> None:
    policy = replace(of(("v2", "v1")), failing=failing("v1"))
    dispatch = open_dispatch(WANTED, NOW, policy)
    for _ in range(policy.max_restarts + 1):
        dispatch = successor_of(arrived(dispatch, policy), LOST, policy)
    assert (dispatch.state, dispatch.briefing.deployment) == (State.UNAVAILABLE, "v2")


@given(order=names)
def test_where_all_crash_no_two_deployments_throw_a_room_to_each_other(order: list[str]) -> None:
    """Without any knowledge of which fail, as when another replica saw it: the row alone bounds it."""
    policy = of(order)
    dispatch, used = open_dispatch(WANTED, NOW, policy), []
    while dispatch.state is State.CREATING:
        used.append(dispatch.briefing.deployment)
        assert len(used) <= 1 + policy.max_restarts * len(order)
        dispatch = successor_of(arrived(dispatch, policy), LOST, policy)
    assert list(dict.fromkeys(used)) == order
    # Each of the slow retries after it is for the next one: whichever is mended first is found.
    retried = []
    for _ in order:
        retried.append(dispatch.briefing.deployment)
        assert dispatch.retry_at == NOW + policy.longest_wait_us
        dispatch = successor_of(arrived(dispatch, policy), LOST, policy)
        assert dispatch.state is State.UNAVAILABLE
    assert sorted(retried) == sorted(order)


# What is left alone


@pytest.mark.parametrize("event", [Event.AGENT_LOST, Event.UNTAKEN, Event.REFUTED])
@pytest.mark.parametrize(
    ("by", "deployment"),
    [
        ("a caller", "v2"),
        ("a caller", "blue"),
        ("another program", "v2"),
        ("another program", "blue"),
        ("another program", ""),
        ("a former version", "blue"),
    ],
)
def test_a_deployment_that_was_given_stays(event: Event, by: str, deployment: str) -> None:
    policy = replace(of(("v2", "v1", "")), failing=failing("v2", "blue", ""))
    given_one = replace(WANTED, briefing=Briefing(metadata="m", deployment=deployment))
    if by == "another program":
        given_one = replace(given_one, dispatch_id="AD_0")
    dispatch = given_one if by == "a former version" else open_dispatch(given_one, NOW, policy)
    changed = Signal(event=Event.POLICY_CHANGED, terms=policy.terms_for("agent", "room"))
    for _ in range(4):
        dispatch = decide(dispatch, changed, NOW, policy).dispatch
        started = decide(dispatch, DISPATCHED, NOW, policy).dispatch
        if event is not Event.UNTAKEN:
            started = arrived(started, policy)
        dispatch = successor_of(started, Signal(event=event), policy)
        assert dispatch.briefing == given_one.briefing


# A reload


def test_a_reload_changes_nothing_for_what_runs() -> None:
    rolled_back = replace(POLICY, shares={"agent": (Share(deployment="v1", weight=100),)})
    running = arrived(open_dispatch(WANTED, NOW, of(("v2", "v1"))), rolled_back)
    assert successor_of(running, LOST, rolled_back).briefing.deployment == "v2"
    assert open_dispatch(WANTED, NOW, rolled_back).briefing.deployment == "v1"


@pytest.mark.parametrize(
    ("former", "latter", "successors"),
    [
        (("v2", "v1"), ("v1",), "v1"),
        (("v2", "v1"), ("v1", "v2"), "v2"),
        (("v2",), (), ""),
        ((), ("v2", "v1"), "v2"),
    ],
    ids=["no longer listed", "still listed", "none listed any more", "the first list"],
)
def test_terms_for_what_runs_move_it_off_what_is_no_longer_listed(
    former: tuple[str, ...], latter: tuple[str, ...], successors: str
) -> None:
    policy, changed = of(former), of(latter)
    running = arrived(open_dispatch(WANTED, NOW, policy), policy)
    terms = changed.terms_for("agent", "room")
    told = decide(running, Signal(event=Event.POLICY_CHANGED, terms=terms), NOW, changed).dispatch
    assert told.briefing == running.briefing
    assert successor_of(told, LOST, changed).briefing.deployment == successors
