"""Metrics count exactly what has happened, in the formats that Prometheus reads."""

import asyncio
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from app.lifecycle.mode import Mode
from fakes.clock import SECOND_US, START_US
from fakes.faults import REFUSED, TIMEOUT, UNAVAILABLE, UNREACHABLE, FailBefore
from fakes.log import ProcessLog, log_of_the_process
from fakes.server import FakeServer
from fakes.webhooks import sign
from integration.conftest import StartApp
from integration.harness import (
    AGENT,
    AGENTS,
    API_KEY,
    KEYPAIR,
    ON_BOTH,
    ON_POSTGRES,
    OTHER_AGENT,
    WEBHOOK,
    App,
    World,
    member_token,
)

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
PREFIX = "agent_lifecycle_"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TTL_S, HOUR_S = 300, 3_600
OPEN = "probes_total{open}"
#: In the hour below, and applied.
WEBHOOKS_TAKEN = 30


async def samples(app: App) -> dict[str, float]:
    """All samples but those of 0, as `name{label values}` without our prefix."""
    await app.service.alert_monitor.look()
    _, _, text = await app.scrape()
    return {
        f"{sample.name.removeprefix(PREFIX)}{{{','.join(sample.labels.values())}}}".removesuffix(
            "{}"
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value and sample.name.startswith(PREFIX)
    }


def named(found: Mapping[str, float], *names: str) -> dict[str, float]:
    return {key: value for key, value in found.items() if key.startswith(names)}


LIFECYCLE = (
    "agents{",
    "agent_join_seconds_",
    "agent_lifetime_seconds_",
    "alert_active",
    "cleanups_",
    "creation_failures_",
    "dispatch",
    "drift_",
    "probes_",
    "restarts_",
    "webhooks_",
    "withheld_",
)


async def one_visit(app: App, server: FakeServer) -> None:
    """Alice's agent comes after 2 s, is reused after a refresh, and ends at its TTL after her leave."""
    await app.dispatch("visit")
    await app.advance(2)
    server.join("visit", "alice")
    await app.settle()
    await app.dispatch("visit")
    server.leave("visit", "alice")
    await app.settle()
    await app.pass_time(TTL_S)
    await app.pass_time(1)


async def a_deaf_and_a_lost_agent(app: App, world: World, server: FakeServer) -> None:
    """Bob's agent goes deaf after 1 s, the next one dies after 1 s, the third is sent away after 1 s."""
    await app.dispatch("ill")
    await app.advance(1)
    server.join("ill", "bob")
    await app.settle()
    world.agents("ill")[0].session_open = False
    await app.dispatch("ill")
    await app.advance(1)
    server.leave("ill", world.agents("ill")[0].identity, "CONNECTION_TIMEOUT")
    await app.settle()
    await app.advance(1)
    await app.end("ill")
    await app.advance(6)


async def no_worker(app: App, server: FakeServer) -> None:
    """Nobody serves the other agent: three dispatches in vain, and a fourth when its time has come."""
    await app.dispatch("unserved", agentName=OTHER_AGENT)
    server.join("unserved", "carol")
    for _ in range(3):
        await app.pass_time(6)
    await app.pass_time(2)


async def refused_and_failing(app: App, world: World) -> None:
    """One creation is refused; one removal fails, and is done a minute later."""
    world.livekit.faults.script("create_dispatch", FailBefore(REFUSED))
    assert (await app.dispatch("refused")).status == 502
    await app.dispatch("stubborn")
    await app.advance(1)
    world.livekit.faults.script("delete_dispatch", FailBefore(TIMEOUT))
    assert (await app.end("stubborn")).status == 504
    await app.pass_time(60)
    await app.advance(6)


async def webhooks_of_all_kinds(app: App, world: World, server: FakeServer) -> None:
    """Dave joins: his webhook comes twice, unsigned, too late for the database; and others are no good."""
    server.join("kinds", "dave")
    await app.settle()
    server.leave("kinds", "dave")
    (left,) = world.post.take()
    assert (await app.deliver(left)).status == 200
    assert (await app.deliver(left)).status == 200
    assert (await app.call("POST", WEBHOOK, data=left.body, auth=None)).status == 401
    for body, status in ((b'{"event": "track_published"}', 200), (b"{}", 400), (b"{" * 1_048_577, 413)):
        headers = {"Authorization": sign(body, KEYPAIR)}
        assert (await app.call("POST", WEBHOOK, data=body, headers=headers, auth=None)).status == status
    server.join("kinds", "erin")
    (joined,) = world.post.take()
    world.database_faults.down = True
    assert (await app.deliver(joined)).status == 503
    world.database_faults.down = False


async def the_rest_of_the_hour(app: App, world: World, server: FakeServer) -> None:
    """Carol gives up, and Frank talks on: every minute the service looks, and finds all as it should be."""
    await app.service.alert_monitor.look()
    server.leave("unserved", "carol")
    await app.dispatch("talk")
    await app.advance(1)
    server.join("talk", "frank")
    while (left_s := HOUR_S - (world.clock.now() - START_US) / SECOND_US) > 0:
        await app.pass_time(min(60, left_s))
        await app.service.alert_monitor.look()


@ON_BOTH
async def test_an_hour(start_app: StartApp, world: World, server: FakeServer) -> None:
    with log_of_the_process(world.clock, "DEBUG", rate_limit=20) as log:
        app = await start_app(log_counts=log.handler.counts)
        server.start_worker(AGENT)

        await one_visit(app, server)
        await a_deaf_and_a_lost_agent(app, world, server)
        await refused_and_failing(app, world)
        await no_worker(app, server)
        await webhooks_of_all_kinds(app, world, server)
        await the_rest_of_the_hour(app, world, server)
        assert world.clock.now() - START_US == HOUR_S * SECOND_US
    found = await samples(app)

    assert_what_happened(found)
    assert_what_it_took(found, world)
    assert_what_was_logged(found, log)


def assert_what_it_took(found: Mapping[str, float], world: World) -> None:
    """By LiveKit's count, by the database's, and by what was sent."""
    calls = named(found, "livekit_calls_total{")
    assert {key: value for key, value in calls.items() if not key.endswith(",ok}")} == {
        "livekit_calls_total{create_dispatch,refused}": 1,
        "livekit_calls_total{delete_dispatch,timeout}": 1,
    }
    methods: Counter[str] = Counter()
    for key, value in calls.items():
        methods[re.split("[{,]", key)[1]] += int(value)
    assert methods == Counter(call.method for call in world.livekit.calls)
    assert methods == {
        re.split("[{}]", key)[1]: value for key, value in named(found, "livekit_call_seconds_count").items()
    }

    assert named(found, "http_requests_total", "http_request_seconds_count") == {
        "http_requests_total{POST,/api/livekit/dispatch-agent,2xx}": 6 + 1,
        "http_requests_total{POST,/api/livekit/dispatch-agent,5xx}": 1,
        "http_requests_total{DELETE,/api/livekit/dispatch-agent,2xx}": 1,
        "http_requests_total{DELETE,/api/livekit/dispatch-agent,5xx}": 1,
        # Applied, stale and ignored.
        "http_requests_total{POST,/api/livekit/webhook,2xx}": WEBHOOKS_TAKEN + 1 + 1,
        "http_requests_total{POST,/api/livekit/webhook,4xx}": 3,
        "http_requests_total{POST,/api/livekit/webhook,5xx}": 1,
        "http_request_seconds_count{POST,/api/livekit/dispatch-agent}": 8,
        "http_request_seconds_count{DELETE,/api/livekit/dispatch-agent}": 2,
        "http_request_seconds_count{POST,/api/livekit/webhook}": WEBHOOKS_TAKEN + 6,
    }

    assert found["probes_total{closed}"] + found[OPEN] == world.livekit.count("probe")

    commits = "commit_changes_count", "commit_changes_sum", "commit_seconds_count", "commit_failures_total"
    asked = world.database_faults.asked_to_commit
    assert [found[name] for name in commits] == [len(asked), sum(asked), len(asked), 1]
    assert sum(named(found, "transitions_total{").values()) == len(world.rows("history"))


def assert_what_was_logged(found: Mapping[str, float], log: ProcessLog) -> None:
    became: dict[str, Counter[str]] = {"written": Counter(), "dropped": Counter(), "aggregated": Counter()}
    for key, value in named(found, "log_lines_total{").items():
        level, result = re.split("[{,}]", key)[1:3]
        became[result][level] += int(value)
    assert became["written"] == log.written()
    assert sum(became.values(), Counter()) == log.called
    # The webhook that the database did not take, and people without an agent.
    assert log.called["error"] == became["written"]["error"] == 2


def assert_what_happened(found: Mapping[str, float]) -> None:
    found = named(found, *LIFECYCLE)
    # How often an agent is asked while all is well is not what this is about.
    assert {key: value for key, value in found.items() if not is_detail(key) and key != OPEN} == {
        "agent_join_seconds_count": 6,
        "agent_join_seconds_sum": 2 + 1 + 1 + 1 + 1 + 1,
        "agent_lifetime_seconds_count": 5,
        # Those of the ill end in the second of their join, and the stubborn one's removal took a minute.
        "agent_lifetime_seconds_sum": TTL_S + 60,
        "agents{active}": 1,
        "cleanups_total{failed}": 1,
        "cleanups_total{removed}": 1 + 3 + 1 + 4,
        "creation_failures_total{livekit_refused}": 1,
        "dispatch_requests_total{created}": 1 + 2 + 1 + 1 + 1,
        "dispatch_requests_total{failed}": 1,
        "dispatch_requests_total{reused}": 1,
        "dispatches_created_total": 1 + 3 + 1 + 4 + 1,
        "dispatches_ended_total{agent_failed}": 1,
        # After the visit, and the one that Carol has waited for.
        "dispatches_ended_total{expired}": 1 + 1,
        "dispatches_ended_total{gone}": 1,
        "dispatches_ended_total{never_joined}": 4,
        "dispatches_ended_total{replaced}": 1,
        "dispatches_ended_total{requested}": 2,
        "dispatches_intended_total{replacement}": 1,
        "dispatches_intended_total{request}": 1 + 1 + 2 + 1 + 1,
        "dispatches_intended_total{restart}": 1,
        "dispatches_intended_total{retry}": 2 + 1,
        "dispatches_replaced_total{agent_lost}": 1,
        "dispatches_replaced_total{refuted}": 1,
        "dispatches_replaced_total{untaken}": 2,
        # Erin, whose webhook the database did not take.
        "drift_total{missed_join}": 1,
        "probes_total{closed}": 1,
        "restarts_total{agent_lost}": 1,
        # Six agents and Alice, Bob, Carol, Dave and Frank.
        "webhooks_total{participant_joined,applied}": 6 + 5,
        "webhooks_total{participant_joined,database_unavailable}": 1,
        # Five agents and Alice, Carol and Dave.
        "webhooks_total{participant_left,applied}": 5 + 3,
        "webhooks_total{participant_left,stale}": 1,
        # All but those of Bob, Erin and Frank.
        "webhooks_total{room_finished,applied}": 4,
        "webhooks_total{room_started,applied}": 7,
        "webhooks_total{track_published,ignored}": 1,
        "webhooks_total{unknown,malformed}": 1,
        "webhooks_total{unknown,too_large}": 1,
        "webhooks_total{unknown,unauthenticated}": 1,
    }


def is_detail(key: str) -> bool:
    return "_bucket{" in key or "_seconds_created" in key


async def test_drift(app: App, world: World, server: FakeServer) -> None:
    """Lost webhooks, an agent that others dispatched, and an extra agent."""
    server.start_worker(AGENT)
    world.post.lossy = True
    server.create_dispatch("room", AGENT)
    await app.advance(1)
    server.join("room", "alice")
    await app.sweep()
    server.create_dispatch("room", AGENT)
    await app.advance(10)
    await app.sweep()

    found = named(await samples(app), "dispatches_", "drift_", "agents{")
    assert {key: value for key, value in found.items() if not is_detail(key)} == {
        "agents{active}": 1,
        "dispatches_adopted_total": 1,
        "drift_total{adopted}": 1,
        "drift_total{extra}": 1,
        # Alice and two agents.
        "drift_total{missed_join}": 3,
    }


async def test_in_observe_suppressed_actions_are_counted(start_app: StartApp, server: FakeServer) -> None:
    app = await start_app(mode=Mode.OBSERVE)
    server.start_worker(AGENT)
    await app.dispatch()
    await app.advance(1)
    await app.dispatch()
    await app.advance(1)

    found = named(await samples(app), "cleanups_", "withheld_", "dispatches_created_total")
    assert found == {"dispatches_created_total": 2, "withheld_total{reuse}": 1}


async def test_the_lag_of_a_webhook(app: App, world: World, server: FakeServer) -> None:
    """From LiveKit's whole second on; a clock of LiveKit's that is ahead is no lag."""
    server.open_room("room")
    world.clock.advance(3.5)
    await app.settle()
    late = await samples(app)
    body = b'{"event": "track_published", "createdAt": "1900000000"}'
    await app.call("POST", WEBHOOK, data=body, headers={"Authorization": sign(body, KEYPAIR)}, auth=None)
    early = await samples(app)

    lags = [(one["webhook_lag_seconds_count"], one["webhook_lag_seconds_sum"]) for one in (late, early)]
    assert lags == [(1, 3.5), (2, 3.5)]


async def test_calls_of_livekit(app: App, world: World) -> None:
    faults = [FailBefore(error) for error in (UNREACHABLE, TIMEOUT, UNAVAILABLE, REFUSED)]
    world.livekit.faults.script("find_room", *faults)
    for _ in faults:
        await app.dispatch()

    found = await samples(app)
    assert named(found, "livekit_calls_total{find") == {
        "livekit_calls_total{find_room,refused}": 1,
        "livekit_calls_total{find_room,timeout}": 1,
        "livekit_calls_total{find_room,unavailable}": 1,
        "livekit_calls_total{find_room,unreachable}": 1,
    }
    assert found["livekit_call_seconds_count{find_room}"] == 4


async def test_commits(app: App, world: World, server: FakeServer) -> None:
    before = await samples(app)
    server.join("room", "alice")
    started, joined = world.post.take()
    await app.deliver(started)
    world.database_faults.down = True
    await app.deliver(joined)
    world.database_faults.down = False
    after = await samples(app)

    commits = "commit_changes_count", "commit_changes_sum", "commit_seconds_count", "commit_failures_total"
    assert [after[name] - before.get(name, 0) for name in commits] == [2, 2, 2, 1]
    assert after.get("writer_queue_depth", 0) == 0


async def test_requests_by_route_and_class_of_status(app: App) -> None:
    await app.call("GET", AGENTS)
    await app.call("GET", f"{AGENTS}/a-dispatch-that-nobody-knows")
    await app.call("GET", f"{AGENTS}/another", auth="wrong")
    await app.call("GET", "/no/such/path")
    await app.call("PURGE", AGENTS)

    found = await samples(app)
    assert named(found, "http_requests_total{") == {
        "http_requests_total{GET,/api/livekit/agents,2xx}": 1,
        "http_requests_total{GET,/api/livekit/agents/{dispatch_id},4xx}": 2,
        "http_requests_total{GET,unmatched,4xx}": 1,
        "http_requests_total{other,unmatched,4xx}": 1,
    }
    assert found["http_request_seconds_count{GET,/api/livekit/agents/{dispatch_id}}"] == 2


@ON_BOTH
async def test_agents_are_absent_while_the_database_cannot_be_read(app: App, world: World) -> None:
    await app.dispatch()
    assert named(await samples(app), "agents{") == {"agents{starting}": 1}

    world.database_faults.down = True

    assert named(await samples(app), "agents{") == {}


@ON_POSTGRES
async def test_replicas_report_the_same_agents(start_app: StartApp, server: FakeServer) -> None:
    server.start_worker(AGENT)
    one = await start_app()
    await one.dispatch("a")
    await one.advance(1)
    other = await start_app()
    await other.dispatch("b")
    await other.advance(1)

    assert [named(await samples(app), "agents{") for app in (one, other)] == [{"agents{idle}": 2}] * 2
    created = [(await samples(app))["dispatches_created_total"] for app in (one, other)]
    assert created == [1, 1]


async def test_process_metrics_are_included(app: App) -> None:
    _, _, text = await app.scrape()

    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    for name in ("resident_memory_bytes", "virtual_memory_bytes", "open_fds", "start_time_seconds"):
        (sample,) = families[f"process_{name}"]
        assert sample.value > 0, name
    assert {"process_cpu_seconds", "python_info"} <= set(families)


# The form


async def test_a_scraper_gets_the_format_that_it_asks_for(app: App) -> None:
    _, content_type, text = await app.scrape(accept=f"{OPENMETRICS},text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    assert list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # theirs

    _, content_type, text = await app.scrape()
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "# EOF" not in text


async def test_who_may_read(start_app: StartApp) -> None:
    app = await start_app(metrics_public=False)
    assert [(await app.scrape(auth=auth))[0] for auth in (None, "wrong", member_token("room"), API_KEY)] == [
        401,
        401,
        403,
        200,
    ]
    await app.stop()
    public = await start_app()
    assert (await public.scrape())[0] == 200


async def test_the_documented_metrics_are_the_exported_ones(app: App, server: FakeServer) -> None:
    """With their types and labels."""
    server.start_worker(AGENT)
    await app.dispatch()
    await app.advance(1)
    await app.dispatch()
    found = {
        family.name.removeprefix(PREFIX): family.type
        for family in app.service.metrics.registry.collect()
        if family.name.startswith(PREFIX)
    }
    rows = re.findall(
        r"^\| `agent_lifecycle_(\w+)` \| (\w+) \|", DOC.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name.removesuffix("_total"): kind for name, kind in rows} == found


async def test_every_label_of_every_sample_is_documented(app: App, world: World, server: FakeServer) -> None:
    server.start_worker(AGENT)
    await one_visit(app, server)
    await webhooks_of_all_kinds(app, world, server)
    text = DOC.read_text(encoding="utf-8")
    documented = {
        name.removesuffix("_total"): set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `agent_lifecycle_(\w+)` \| \w+ \|([^|]*)\|", text, re.MULTILINE)
    }
    for family in app.service.metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                assert set(sample.labels) - {"le"} == documented[family.name.removeprefix(PREFIX)], sample


async def test_no_name_of_a_room_or_person_is_exported(app: App, server: FakeServer) -> None:
    server.start_worker(AGENT)
    await app.dispatch("a-secret-room")
    await app.advance(1)
    server.join("a-secret-room", "a-secret-person")
    await app.settle()
    await app.status("a-secret-room")

    _, _, text = await app.scrape()
    assert "secret" not in text
    assert "AD_" not in text


async def test_promtool_accepts_the_text_format(app: App, world: World, server: FakeServer) -> None:
    """The plain format alone: promtool does not read OpenMetrics, which has its own test above."""
    promtool = shutil.which("promtool")
    if promtool is None:
        hint = "no promtool on PATH; get it with: apt-get install --no-install-recommends prometheus"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(hint, pytrace=False)
        pytest.skip(hint)
    server.start_worker(AGENT)
    await one_visit(app, server)
    await webhooks_of_all_kinds(app, world, server)
    _, _, text = await app.scrape()

    checked = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
