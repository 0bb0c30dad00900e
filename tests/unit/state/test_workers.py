"""How many jobs the workers of an agent still take, and when that is not known."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.lifecycle import SECOND_US, State
from app.state.workers import (
    Age,
    Drain,
    DrainOf,
    Job,
    Need,
    Pool,
    Worker,
    WorkerState,
    figures_of,
    free_slots,
)

NOW = 1_800_000_000 * SECOND_US
WORKER = Worker(
    id="one",
    livekit_id="AW_1",
    number=1,
    agent_names=("agent",),
    deployment="",
    version="",
    helper="",
    slots=3,
    jobs=(Job("AD_1", "room-1"),),
    active=1,
    warm=0,
    load=0.1,
    accepting=True,
    draining=False,
    first_seen_at=NOW,
    seen_at=NOW,
    left_at=None,
)
FULL = replace(WORKER, id="full", slots=1)


def need(dispatch_id: str | None, state: State = State.ACTIVE, *, joined_s_ago: float | None = 60) -> Need:
    joined_at = None if joined_s_ago is None else NOW - round(joined_s_ago * SECOND_US)
    return Need(dispatch_id, f"room-{dispatch_id}", state, "", 1, joined_at)


def free(
    workers: Sequence[Worker], needs: Sequence[Need] = (), *, ages: dict[str, Age] | None = None
) -> int | None:
    pool = Pool(
        agent_name="agent",
        deployments=("",),
        age_of=lambda worker: (ages or {}).get(worker.id, Age.FRESH),
        is_drained=lambda worker: worker.id == "drained",
    )
    return free_slots(pool, workers, needs, NOW)


def test_the_slots_of_all_workers_are_added() -> None:
    assert free([WORKER]) == 2
    assert free([WORKER, replace(WORKER, id="two", slots=10)]) == 11
    assert free([WORKER, FULL]) == 2


@pytest.mark.parametrize("change", [{"accepting": False}, {"draining": True}, {"slots": 1}])
def test_a_worker_that_takes_nothing_has_no_slot(change: dict[str, object]) -> None:
    assert free([replace(WORKER, **change)]) == 0  # type: ignore[arg-type]
    assert free([replace(WORKER, **change), replace(WORKER, id="two")]) == 2  # type: ignore[arg-type]


def test_a_worker_that_is_drained_has_no_slot_before_it_has_heard_of_it() -> None:
    assert free([replace(WORKER, id="drained"), WORKER]) == 2
    assert free([replace(WORKER, id="drained", slots=None)]) == 0


def test_a_worker_without_slots_makes_them_unknown_only_while_it_accepts() -> None:
    unsized = replace(WORKER, id="two", slots=None)
    assert free([FULL, unsized]) is None
    assert free([FULL, replace(unsized, accepting=False)]) == 0


def test_workers_of_other_agents_and_deployments_do_not_count() -> None:
    assert free([replace(WORKER, agent_names=("other",))]) is None
    assert free([replace(WORKER, deployment="v2")]) is None
    assert free([]) is None


@pytest.mark.parametrize("age", [Age.LATE, Age.UNSURE])
def test_a_report_that_is_not_fresh_makes_them_unknown(age: Age) -> None:
    assert free([FULL, WORKER], ages={"one": age}) is None


def test_a_worker_that_is_gone_has_no_slots_and_its_agents_are_known() -> None:
    gone = replace(WORKER, jobs=(Job("AD_9", "room-9"),))
    assert free([FULL, gone], [need("AD_9")], ages={"one": Age.GONE}) == 0
    assert free([gone], ages={"one": Age.GONE}) is None


def test_what_was_dispatched_since_the_reports_takes_a_slot_each() -> None:
    assert free([WORKER], [need("AD_1")]) == 2
    new = [need(None, State.CREATING, joined_s_ago=None), need("AD_2", State.STARTING, joined_s_ago=None)]
    assert free([WORKER], [need("AD_1"), new[0]]) == 1
    assert free([WORKER], [need("AD_1"), *new]) == 0
    assert free([WORKER], [need("AD_2", joined_s_ago=4.9)]) == 1
    assert free([WORKER], [*new, need("AD_4", State.UNAVAILABLE, joined_s_ago=None)]) == 0


def test_what_needs_no_worker_takes_no_slot() -> None:
    alone = need("AD_4", State.UNAVAILABLE, joined_s_ago=None)._replace(participant_count=0)
    others = [need("AD_2", State.ON_HOLD), need("AD_3", State.ENDING), alone]
    elsewhere = need("AD_5")._replace(deployment="v2")
    assert free([WORKER], [*others, elsewhere]) == 2


def test_an_agent_that_no_worker_reports_makes_them_unknown() -> None:
    assert free([FULL], [need("AD_2", joined_s_ago=5)]) is None
    assert free([FULL], [need("AD_2", State.IDLE, joined_s_ago=5)]) is None


def test_a_report_that_does_not_name_all_jobs_makes_them_unknown() -> None:
    assert free([replace(FULL, active=2)]) is None


def test_a_drain_covers_its_worker_or_its_deployment() -> None:
    of_worker = Drain(of=DrainOf.WORKER, name="one", requested_at=NOW)
    assert of_worker.covers(WORKER)
    assert not of_worker.covers(FULL)
    of_deployment = Drain(of=DrainOf.DEPLOYMENT, name="v1", requested_at=NOW)
    later = replace(WORKER, deployment="v1", first_seen_at=NOW + 1)
    assert of_deployment.covers(later)
    assert not of_deployment.covers(WORKER)


def test_a_drain_of_those_without_a_deployment_covers_those_that_were_there() -> None:
    drain = Drain(of=DrainOf.DEPLOYMENT, name="", requested_at=NOW)
    assert drain.covers(WORKER)
    assert not drain.covers(replace(WORKER, first_seen_at=NOW + 1))
    assert not drain.covers(replace(WORKER, deployment="v1"))


def with_states(*workers: Worker) -> list[tuple[Worker, WorkerState]]:
    return [(worker, worker.state) for worker in workers]


def test_the_figures_of_an_agents_workers() -> None:
    draining = replace(WORKER, id="old", draining=True, active=2)
    found = figures_of("agent", with_states(WORKER, FULL, draining), waiting=1, spare_slots=2)
    assert (found.active, found.slots, found.free) == (4, 4, 2)
    assert found.workers == {
        WorkerState.ACCEPTING: 1,
        WorkerState.FULL: 1,
        WorkerState.DRAINING: 1,
        WorkerState.MISSING: 0,
    }
    assert found.known == 3
    # Two jobs, one that waits and two spare ones, at two slots for each worker.
    assert found.desired == 3


def test_without_the_slots_of_each_worker_none_are_desired() -> None:
    unsized = replace(WORKER, slots=None)
    for workers in ([unsized], [WORKER, unsized], [replace(WORKER, draining=True)]):
        found = figures_of("agent", with_states(*workers), waiting=5, spare_slots=1)
        assert (found.slots, found.free, found.desired) == (None, None, None)
