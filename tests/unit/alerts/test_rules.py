"""Alerts are raised and resolved once, exactly at their thresholds; figures and times are made up."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.alerts.model import QUIET_US, Alert, AlertChange, Alerts, Figures
from app.alerts.rules import (
    CLEANUP_WINDOW_US,
    CREATIONS_STALE_US,
    LOG_WINDOW_US,
    MIN_CLEANUPS,
    MIN_LINES,
    MINUTE_US,
    START_MARGIN_US,
    WEBHOOK_PATIENCE_US,
    rules_for,
)
from app.config.settings import Config
from app.lifecycle import SECOND_US, Dispatch, State, Terms
from app.state.views import AlertFacts
from app.state.workers import AgentFleet, WorkerState
from fakes.dispatches import INTENT

START_US = 1_800_000_000 * SECOND_US
CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_api_key="devkey",
    livekit_api_secret="dev-secret-of-at-least-32-characters",
    agent_names=("agent",),
    database_url="sqlite://",
)
CALM = Figures(
    at=START_US,
    facts=AlertFacts(agents={}, stuck=(), unserved=(), last_webhook_at=START_US),
    commits_fail=False,
    file_problem=None,
    cleanups=0,
    cleanup_failures=0,
    log_lines=0,
    log_drops=0,
    failed_creations_in_a_row=0,
    newest_join_at=None,
)


class Desk:
    """The alerts of one process, and the current figures."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.alerts = Alerts(rules_for(config, START_US))
        self.figures = CALM
        self.seen: list[AlertChange] = []
        self.look()

    def look(self, after_us: int = 0, *, facts: Mapping[str, Any] | None = None, **changes: Any) -> set[str]:
        """Let time pass, change figures and check; returns the names of the raised alerts."""
        figures = replace(self.figures, at=self.figures.at + after_us, **changes)
        if facts is not None and figures.facts:
            figures = replace(figures, facts=replace(figures.facts, **facts))
        self.figures = figures
        self.seen += self.alerts.look(figures)
        return {alert.name for alert in self.alerts.current()}

    @property
    def changes(self) -> list[tuple[str, bool]]:
        """Each change: the alert's name, and whether it was resolved."""
        return [(one.alert.name, one.resolved_at is not None) for one in self.seen]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def row(**fields: Any) -> Dispatch:
    dispatch = replace(INTENT, state=State.IDLE, created_at=START_US, last_activity_at=START_US)
    return replace(dispatch, **fields)


def raised_once_and_resolved_once(desk: Desk, name: str) -> bool:
    return desk.changes == [(name, False), (name, True)]


def test_no_alert_without_a_problem(desk: Desk) -> None:
    for _ in range(1_000):
        assert desk.look(5 * SECOND_US) == set()
    assert desk.seen == []


# Too many agents


@pytest.mark.parametrize("state", [State.STARTING, State.ACTIVE, State.IDLE, State.ENDING])
def test_too_many_agents_above_the_limit(desk: Desk, state: State) -> None:
    assert desk.look(1, facts={"agents": {state: 20}}) == set()
    assert desk.look(1, facts={"agents": {state: 21}}) == {"too_many_agents"}
    assert desk.look(1, facts={"agents": {state: 30}}) == {"too_many_agents"}
    assert desk.alerts.current()[0].summary == "There are 30 agents; the limit is 20."


@pytest.mark.parametrize("state", [State.CREATING, State.UNAVAILABLE])
def test_dispatches_without_an_agent_do_not_count(desk: Desk, state: State) -> None:
    assert desk.look(1, facts={"agents": {state: 100}}) == set()


def test_too_many_agents_resolves_after_a_minute_at_nine_tenths(desk: Desk) -> None:
    desk.look(1, facts={"agents": {"active": 21}})
    assert desk.look(2 * QUIET_US, facts={"agents": {"active": 19}}) == {"too_many_agents"}
    assert desk.look(QUIET_US, facts={"agents": {"active": 18}}) == {"too_many_agents"}
    assert desk.look(QUIET_US - 1) == {"too_many_agents"}
    assert desk.look(1) == set()
    assert raised_once_and_resolved_once(desk, "too_many_agents")
    assert desk.seen[0].alert.since_at == START_US + 1
    assert desk.seen[1].resolved_at == desk.figures.at


def test_a_number_that_crosses_the_limit_often_is_one_alert(desk: Desk) -> None:
    for _ in range(50):
        desk.look(QUIET_US - 1, facts={"agents": {"active": 21}})
        desk.look(QUIET_US - 1, facts={"agents": {"active": 5}})
    assert desk.changes == [("too_many_agents", False)]


# Removals


def test_cleanup_failures_above_the_percentage(desk: Desk) -> None:
    assert desk.look(1, cleanups=20, cleanup_failures=2) == set()
    assert desk.look(1, cleanups=29, cleanup_failures=3) == {"cleanup_failures"}


def test_few_removals_raise_no_alert(desk: Desk) -> None:
    assert desk.look(1, cleanups=MIN_CLEANUPS - 1, cleanup_failures=MIN_CLEANUPS - 1) == set()
    assert desk.look(1, cleanups=MIN_CLEANUPS, cleanup_failures=MIN_CLEANUPS - 1) == {"cleanup_failures"}


def test_removals_count_for_ten_minutes(desk: Desk) -> None:
    desk.look(1, cleanups=10, cleanup_failures=2)
    assert desk.look(CLEANUP_WINDOW_US - 2) == {"cleanup_failures"}
    # Out of the window from here on; then a minute of quiet.
    assert desk.look(2) == {"cleanup_failures"}
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "cleanup_failures")


def test_cleanup_failures_resolve_at_half_the_percentage(desk: Desk) -> None:
    desk.look(1, cleanups=10, cleanup_failures=2)
    assert desk.look(2 * QUIET_US, cleanups=39) == {"cleanup_failures"}
    desk.look(1, cleanups=40)
    assert desk.look(QUIET_US) == set()


def test_cleanup_stuck(desk: Desk) -> None:
    assert desk.look(1, facts={"stuck": (row(cleanup_failures=3),)}) == {"cleanup_stuck"}
    assert desk.alerts.current()[0].rooms == ("room",)
    desk.look(1, facts={"stuck": ()})
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "cleanup_stuck")


# The log


def test_log_drops_above_the_percentage(desk: Desk) -> None:
    assert desk.look(1, log_lines=1_000, log_drops=50) == set()
    assert desk.look(1, log_lines=1_001, log_drops=51) == {"log_drops"}
    desk.look(LOG_WINDOW_US)
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "log_drops")


def test_few_log_lines_raise_no_alert(desk: Desk) -> None:
    assert desk.look(1, log_lines=MIN_LINES - 1, log_drops=100) == set()
    assert desk.look(1, log_lines=MIN_LINES) == {"log_drops"}


# Creations and workers


def test_creation_failing_after_failures_in_a_row(desk: Desk) -> None:
    assert desk.look(1, failed_creations_in_a_row=2) == set()
    assert desk.look(1, failed_creations_in_a_row=3) == {"creation_failing"}
    assert desk.look(CREATIONS_STALE_US - 1) == {"creation_failing"}
    desk.look(1, failed_creations_in_a_row=0)
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "creation_failing")


def test_creation_failing_resolves_half_an_hour_after_the_last_failure(desk: Desk) -> None:
    """In the night after an outage nobody calls, so that nothing can succeed."""
    desk.look(1, failed_creations_in_a_row=3)
    desk.look(CREATIONS_STALE_US)
    assert desk.look(QUIET_US) == set()
    assert desk.look(CREATIONS_STALE_US) == set()
    assert desk.look(1, failed_creations_in_a_row=4) == {"creation_failing"}


@pytest.mark.parametrize(
    ("causes", "said"),
    [
        (["untaken"], "no worker takes the job"),
        (["join_overdue"], "workers take the job, but no agent joins in time (45 s)"),
        (["agent_lost"], "agents fail"),
        (["untaken", "agent_lost"], "agents fail; no worker takes the job"),
    ],
)
def test_people_who_wait_are_told_of_with_the_cause_and_the_setting(
    desk: Desk, causes: list[str], said: str
) -> None:
    waiting = tuple(
        row(
            state=State.UNAVAILABLE,
            participant_count=1,
            room_name=f"room-{cause}",
            cause=cause,
            terms=Terms(ttl_us=SECOND_US, join_timeout_us=45 * SECOND_US),
        )
        for cause in causes
    )
    desk.look(1, facts={"unserved": waiting})
    (alert,) = desk.alerts.current()
    rooms = "1 room" if len(causes) == 1 else f"{len(causes)} rooms"
    assert alert.summary == f"People are waiting for an agent in {rooms}: {said}."
    assert "AGENT_JOIN_TIMEOUT_SECONDS, or join_timeout_s" in alert.advice


def test_no_worker_while_people_wait(desk: Desk) -> None:
    waiting = row(state=State.UNAVAILABLE, participant_count=1)
    assert desk.look(1, facts={"unserved": (waiting,)}) == {"no_worker"}
    # Each try takes it out of the state for some seconds.
    assert desk.look(6 * SECOND_US, facts={"unserved": ()}) == {"no_worker"}
    assert desk.look(6 * SECOND_US, facts={"unserved": (waiting,)}) == {"no_worker"}
    desk.look(1, facts={"unserved": ()})
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "no_worker")


def fleet(*, free: int | None, slots: int | None = 40, agent_name: str = "agent") -> AgentFleet:
    workers = dict.fromkeys(WorkerState, 0) | {WorkerState.ACCEPTING: 1, WorkerState.FULL: 3}
    return AgentFleet(agent_name=agent_name, workers=workers, active=38, slots=slots, free=free, desired=None)


def test_no_worker_says_how_many_workers_there_are_if_that_is_known(desk: Desk) -> None:
    waiting = row(state=State.UNAVAILABLE, participant_count=1, agent_name="agent")
    desk.look(1, facts={"unserved": (waiting,)}, fleet=(fleet(free=9), fleet(free=9, agent_name="other")))
    (alert,) = desk.alerts.current()
    assert alert.summary.endswith(" 4 workers known, 1 accepting jobs, 38 agents on them.")


# Slots


def test_capacity_is_low_below_the_share_of_free_slots(desk: Desk) -> None:
    assert desk.look(1, fleet=(fleet(free=4),)) == set()
    assert desk.look(1, fleet=(fleet(free=30), fleet(free=3))) == {"capacity_low"}
    assert desk.alerts.current()[0].summary == "The workers of an agent have 3 of 40 slots free."
    desk.look(1, fleet=(fleet(free=4),))
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "capacity_low")


def test_capacity_is_not_low_where_slots_are_unknown_or_nobody_wants_to_know(desk: Desk) -> None:
    assert desk.look(1, fleet=(fleet(free=None, slots=None),)) == set()
    assert Desk(replace(CONFIG, alert_free_slots_percent=0)).look(1, fleet=(fleet(free=0),)) == set()


def test_an_alert_lists_up_to_five_rooms_once_each(desk: Desk) -> None:
    rooms = [row(state=State.UNAVAILABLE, room_name=f"room-{number // 2}") for number in range(40)]
    desk.look(1, facts={"unserved": tuple(rooms)})
    assert desk.alerts.current()[0].rooms == tuple(f"room-{number}" for number in range(5))


# Webhooks


def test_no_webhooks_a_minute_after_a_join(desk: Desk) -> None:
    joined_at = START_US + MINUTE_US
    assert desk.look(MINUTE_US, facts={"last_webhook_at": None}, newest_join_at=joined_at) == set()
    assert desk.look(WEBHOOK_PATIENCE_US - 1) == set()
    assert desk.look(1) == {"no_webhooks"}
    # Everybody has left, and the problem remains.
    assert desk.look(10 * MINUTE_US) == {"no_webhooks"}
    desk.look(1, facts={"last_webhook_at": desk.figures.at})
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "no_webhooks")


def test_no_webhooks_after_webhooks_have_stopped(desk: Desk) -> None:
    last_at = START_US
    on_time = last_at + WEBHOOK_PATIENCE_US
    assert desk.look(5 * MINUTE_US, newest_join_at=on_time) == set()
    assert desk.look(0, newest_join_at=on_time + 1) == {"no_webhooks"}


def test_a_join_before_the_start_raises_no_alert(desk: Desk) -> None:
    """Its webhook came while the service was down."""
    before = {"last_webhook_at": None}
    assert desk.look(MINUTE_US, facts=before, newest_join_at=START_US + START_MARGIN_US - 1) == set()
    assert desk.look(10 * MINUTE_US) == set()
    assert desk.look(0, newest_join_at=START_US + START_MARGIN_US) == {"no_webhooks"}


def test_a_quiet_service_raises_no_alert_about_webhooks(desk: Desk) -> None:
    assert desk.look(24 * 60 * MINUTE_US, facts={"last_webhook_at": None}) == set()


def test_the_advice_of_no_webhooks_is_the_yaml_to_add() -> None:
    desk = Desk(replace(CONFIG, public_url="https://lifecycle.example.com"))
    joined_at = START_US + MINUTE_US
    desk.look(10 * MINUTE_US, facts={"last_webhook_at": None}, newest_join_at=joined_at)
    (alert,) = desk.alerts.current()
    assert (
        "webhook:\n  api_key: devkey\n  urls:\n    - https://lifecycle.example.com/api/livekit/webhook\n"
    ) in alert.advice
    assert "secret" not in alert.advice


# The database


def test_database_failing_at_the_second_failure_in_a_row(desk: Desk) -> None:
    facts = desk.figures.facts
    desk.figures = replace(desk.figures, facts=None)
    assert desk.look(1) == set()
    assert desk.look(1) == {"database_failing"}
    desk.figures = replace(desk.figures, facts=facts)
    desk.look(1)
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "database_failing")


def test_a_failed_commit_counts_until_one_succeeds(desk: Desk) -> None:
    """A full disk can be read, and a quiet service does not commit again."""
    assert desk.look(1, commits_fail=True) == set()
    assert desk.look(1) == {"database_failing"}
    assert desk.look(100 * MINUTE_US) == {"database_failing"}
    assert desk.look(1, commits_fail=False) == {"database_failing"}
    assert desk.look(QUIET_US) == set()


def test_a_replaced_file_is_an_alert_of_its_own(desk: Desk) -> None:
    """Commits fail too, but the advice differs."""
    lost: dict[str, Any] = {"file_problem": "The file lifecycle.db was deleted", "commits_fail": True}
    assert desk.look(1, **lost) == {"database_replaced"}
    assert desk.look(MINUTE_US, **lost) == {"database_replaced"}
    assert desk.alerts.current()[0].summary == "The file lifecycle.db was deleted."
    desk.look(1, file_problem=None, commits_fail=False)
    assert desk.look(QUIET_US) == set()
    assert raised_once_and_resolved_once(desk, "database_replaced")


def test_single_database_failures_raise_no_alert(desk: Desk) -> None:
    for _ in range(10):
        assert desk.look(1, commits_fail=True) == set()
        assert desk.look(1, commits_fail=False) == set()


def test_alerts_from_the_database_stay_while_it_is_down(desk: Desk) -> None:
    away = replace(desk.figures, facts=None)
    desk.look(1, facts={"agents": {"active": 21}, "stuck": (row(),), "unserved": (row(),)})
    known = {"too_many_agents", "cleanup_stuck", "no_worker"}
    desk.figures = replace(away, at=desk.figures.at)
    assert desk.look(10 * QUIET_US) >= known
    assert desk.look(10 * QUIET_US) >= known


# All of them


def test_alerts_are_listed_oldest_first(desk: Desk) -> None:
    desk.look(1, facts={"agents": {"active": 21}})
    desk.look(1, failed_creations_in_a_row=3)
    assert [alert.name for alert in desk.alerts.current()] == ["too_many_agents", "creation_failing"]


def test_the_thresholds_come_from_the_settings() -> None:
    desk = Desk(
        replace(
            CONFIG,
            alert_max_agents=2,
            alert_create_failures=1,
            alert_cleanup_failure_percent=50,
            alert_log_drop_percent=50,
        )
    )
    assert desk.look(1, cleanups=100, cleanup_failures=50, log_lines=1_000, log_drops=500) == set()
    changes = {"cleanup_failures": 51, "log_drops": 501, "failed_creations_in_a_row": 1}
    raised = desk.look(1, facts={"agents": {"active": 3}}, **changes)
    assert raised == {"cleanup_failures", "log_drops", "creation_failing", "too_many_agents"}


def test_every_alert_has_a_summary_without_names_and_an_advice(desk: Desk) -> None:
    bad = {"stuck": (row(),), "unserved": (row(),), "agents": {"active": 99}, "last_webhook_at": None}
    changes = {
        "cleanups": 100,
        "cleanup_failures": 100,
        "log_lines": 1_000,
        "log_drops": 900,
        "failed_creations_in_a_row": 9,
        "newest_join_at": START_US + MINUTE_US,
        "commits_fail": True,
        "fleet": (fleet(free=0),),
    }
    desk.look(10 * MINUTE_US, facts=bad, **changes)
    desk.look(1)
    desk.look(1, file_problem="The file lifecycle.db was deleted while the service runs")
    alerts = desk.alerts.current()
    assert {alert.name for alert in alerts} == set(desk.alerts.names)
    assert all(_is_presentable(alert) for alert in alerts)


def _is_presentable(alert: Alert) -> bool:
    return alert.summary.endswith(".") and len(alert.advice) > 40 and "room" not in alert.summary.split()
