"""Traces: one from a call to the agent that answers, whatever happens on the way."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from app.lifecycle import Briefing
from app.logs.redaction import Redaction
from fakes.faults import REFUSED, UNAVAILABLE, FailBefore
from fakes.livekit import FakeLiveKit
from fakes.log import log_of_the_process
from fakes.rooms import FakeWorker
from fakes.server import CONNECTION_TIMEOUT_S, FakeServer
from fakes.spans import Spans, ids, links_of, parent_of
from integration.conftest import StartApp
from integration.harness import AGENT, AGENTS, DISPATCH, KEYPAIR, TOKEN, Answer, App, World
from integration.replicas import LEASE_S
from integration.warm import policy, rounds

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
CALL = f"POST {DISPATCH}"


@pytest.fixture
def spans(world: World) -> Spans:
    return Spans(world.clock)


@pytest.fixture
async def traced(start_app: StartApp, spans: Spans) -> App:
    return await start_app(tracing=spans.open())


async def ask(app: App, headers: Mapping[str, str] = CALLER, **fields: Any) -> Answer:
    return await app.call("POST", DISPATCH, json_body={"roomName": "room", **fields}, headers=headers)


def briefing(world: World) -> Briefing:
    """Of the one dispatch in LiveKit."""
    (dispatch,) = world.livekit.server.rooms["room"].dispatches.values()
    return dispatch.briefing


def told(world: World) -> dict[str, str]:
    attributes: dict[str, str] = json.loads(briefing(world).attributes or "{}")
    return attributes


def error_of(span: ReadableSpan) -> object:
    assert not span.status.is_ok
    assert span.attributes
    return span.attributes["error.type"]


@pytest.mark.usefixtures("worker")
async def test_one_trace_goes_from_the_caller_to_the_agent_that_answers(
    traced: App, world: World, server: FakeServer, spans: Spans
) -> None:
    answer = await ask(traced)
    server.join("room")
    await traced.advance(1)

    assert {ids(span)[0] for span in spans.all()} == {TRACE}
    assert (await traced.status())["ready"]
    call = spans.one(CALL)
    assert parent_of(call) == SPAN
    _, call_id = ids(call)
    for name in ("livekit.find_room", "livekit.create_dispatch", "agent.join", "agent.ready"):
        span = spans.one(name)
        assert (ids(span)[0], parent_of(span)) == (TRACE, call_id), name
    assert told(world) == {
        "agent-lifecycle.traceparent": f"00-{TRACE}-{call_id}-01",
        "agent-lifecycle.tracestate": "vendor=1",
    }
    assert call.attributes
    assert dict(call.attributes) == {
        "http.request.method": "POST",
        "http.route": DISPATCH,
        "http.response.status_code": 200,
        "lk.pii.room_name": "room",
        "lk.agent_name": AGENT,
        "lk.dispatch_id": answer.body["dispatchId"],
        "agent_lifecycle.result": "created",
        "agent_lifecycle.request_id": answer.headers["X-Request-Id"],
    }
    join, ready = spans.one("agent.join"), spans.one("agent.ready")
    assert join.attributes
    assert join.attributes["lk.dispatch_id"] == answer.body["dispatchId"]
    assert join.attributes["agent_lifecycle.event"] == "agent_in"
    assert join.start_time
    assert join.end_time
    assert join.start_time < join.end_time
    assert ready.start_time == join.end_time
    assert all(span.status.is_unset for span in spans.all())


@pytest.mark.usefixtures("worker")
async def test_without_a_trace_of_the_caller_each_call_begins_one(traced: App, spans: Spans) -> None:
    await ask(traced, {"traceparent": "00-nonsense"})
    await traced.status()

    traces = {ids(span)[0] for span in spans.all() if span.parent is None}
    assert len(traces) == 2
    assert TRACE not in traces


@pytest.mark.usefixtures("worker")
async def test_a_caller_that_does_not_sample_gets_no_spans_and_its_agent_learns_that(
    traced: App, world: World, server: FakeServer, spans: Spans
) -> None:
    await ask(traced, {"traceparent": f"00-{TRACE}-{SPAN}-00"})
    server.join("room")
    await traced.advance(1)

    assert spans.all() == []
    version, trace, _, flags = told(world)["agent-lifecycle.traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")


@pytest.mark.usefixtures("worker")
async def test_the_trace_survives_a_restart_between_dispatch_and_join(
    start_app: StartApp, traced: App, server: FakeServer, spans: Spans
) -> None:
    await ask(traced)
    await traced.stop()
    call = ids(spans.one(CALL))
    spans.forget()
    again = await start_app(tracing=spans.open())
    server.join("room")
    await again.advance(1)

    for name in ("agent.join", "agent.ready"):
        span = spans.one(name)
        assert (ids(span)[0], parent_of(span)) == call, name


@pytest.mark.usefixtures("worker")
async def test_a_creation_that_another_process_resumes_is_in_the_trace(
    start_app: StartApp, traced: App, livekit: FakeLiveKit, spans: Spans
) -> None:
    livekit.faults.always("create_dispatch", FailBefore(UNAVAILABLE))
    livekit.faults.always("list_dispatches", FailBefore(UNAVAILABLE))
    answer = await ask(traced)
    assert answer.status == 503
    await traced.stop()
    call = spans.one(CALL)
    assert error_of(call) == "503"
    assert {error_of(span) for span in spans.all("livekit.create_dispatch")} == {"livekit_unavailable"}
    spans.forget()
    livekit.faults.mend()

    again = await start_app(tracing=spans.open())
    await again.pass_time(LEASE_S)

    created = spans.one("livekit.create_dispatch")
    assert (ids(created)[0], parent_of(created)) == ids(call)
    assert created.status.is_unset


async def test_an_agent_that_never_joins_marks_its_spans(
    traced: App, server: FakeServer, spans: Spans
) -> None:
    server.join("room")
    await traced.settle()
    await ask(traced)
    for _ in range(10):
        if await traced.state() != "unavailable":
            await traced.pass_time(3)
    assert await traced.state() == "unavailable"

    joins = spans.all("agent.join")
    assert [error_of(span) for span in joins] == ["untaken"] * 3
    assert [span.attributes and span.attributes["agent_lifecycle.attempt"] for span in joins] == [1, 2, 3]
    assert error_of(spans.one("agent.unavailable")) == "untaken"
    assert {ids(span)[0] for span in joins} == {TRACE}
    assert {parent_of(span) for span in joins} == {ids(spans.one(CALL))[1]}


async def test_an_agent_that_dies_before_it_answers_marks_its_span(
    traced: App, server: FakeServer, worker: FakeWorker, spans: Spans
) -> None:
    worker.starts_after_s = 1_000
    await ask(traced)
    server.join("room")
    await traced.advance(1)
    server.kill(worker)
    await traced.advance(CONNECTION_TIMEOUT_S + 1)

    assert spans.one("agent.join").status.is_unset
    assert error_of(spans.one("agent.ready")) == "agent_lost"


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_is_ended_on_its_way_has_not_failed(traced: App, spans: Spans) -> None:
    await ask(traced)
    await traced.end()

    join = spans.one("agent.join")
    assert join.status.is_unset
    assert join.attributes
    assert join.attributes["agent_lifecycle.end_reason"] == "requested"


@pytest.mark.usefixtures("worker")
async def test_a_refusal_of_livekit_marks_the_call_and_says_what_it_was(
    traced: App, livekit: FakeLiveKit, spans: Spans
) -> None:
    livekit.faults.script("create_dispatch", FailBefore(REFUSED))
    assert (await ask(traced)).status == 502

    assert error_of(spans.one(CALL)) == "502"
    assert error_of(spans.one("livekit.create_dispatch")) == "livekit_refused"
    assert error_of(spans.one("agent.join")) == "not_dispatched"


@pytest.mark.usefixtures("worker")
async def test_a_call_that_gets_the_agent_of_another_is_linked_to_it(
    traced: App, server: FakeServer, spans: Spans
) -> None:
    await ask(traced, {})
    server.join("room")
    await traced.advance(1)
    first = ids(spans.one(CALL))
    spans.forget()

    assert (await ask(traced)).body["reused"]

    second = spans.one(CALL)
    assert (ids(second)[0], links_of(second)) == (TRACE, [first])
    assert ids(spans.one("livekit.probe"))[0] == TRACE
    assert spans.all("agent.join") == []


@pytest.mark.usefixtures("worker")
async def test_a_call_that_replaces_a_lost_agent_has_the_new_one_in_its_trace(
    traced: App, server: FakeServer, world: World, spans: Spans
) -> None:
    await ask(traced, {}, metadata="be kind")
    server.join("room")
    await traced.advance(1)
    (agent,) = world.agents("room")
    agent.session_open = False
    spans.forget()

    answer = await ask(traced)
    await traced.advance(1)

    assert not answer.body["reused"]
    call = spans.one(CALL)
    assert links_of(call) == []
    for name in ("agent.join", "agent.ready"):
        assert (ids(spans.one(name))[0], parent_of(spans.one(name))) == ids(call), name
    assert told(world)["agent-lifecycle.traceparent"] == f"00-{TRACE}-{ids(call)[1]}-01"
    assert briefing(world).metadata == "be kind"


async def test_what_the_service_replaces_by_itself_stays_in_the_trace(
    traced: App, server: FakeServer, worker: FakeWorker, spans: Spans
) -> None:
    await ask(traced)
    server.join("room")
    await traced.advance(1)
    server.kill(worker)
    server.start_worker(AGENT)
    await traced.advance(CONNECTION_TIMEOUT_S + 1)
    await traced.advance(1)

    assert {ids(span)[0] for span in spans.all("agent.join")} == {TRACE}
    first, second = spans.all("agent.join")
    assert second.attributes
    assert second.attributes["agent_lifecycle.cause"] == "agent_lost"
    assert parent_of(first) == parent_of(second) == ids(spans.one(CALL))[1]
    assert len(spans.all("livekit.create_dispatch")) == 2


@pytest.mark.usefixtures("worker")
async def test_an_agent_that_comes_back_from_a_hold_is_in_the_trace_of_the_call_that_resumes(
    traced: App, server: FakeServer, world: World, spans: Spans
) -> None:
    asked = await ask(traced, {})
    server.join("room")
    await traced.advance(1)
    path = f"{AGENTS}/{asked.body['dispatchId']}"
    assert (await traced.call("POST", f"{path}/hold")).status == 200
    await traced.settle()
    spans.forget()

    assert (await traced.call("POST", f"{path}/resume", headers=CALLER)).status == 200
    await traced.advance(1)

    assert ids(spans.one("agent.join"))[0] == TRACE
    assert TRACE in told(world)["agent-lifecycle.traceparent"]


@pytest.mark.usefixtures("worker")
async def test_the_attributes_of_the_caller_stay_beside_the_trace(traced: App, world: World) -> None:
    agents = [{"agent_name": AGENT, "attributes": {"tier": "gold", "traceparent": "its own"}}]
    body = {"room_name": "room", "room_config": {"agents": agents}}
    assert (await traced.call("POST", TOKEN, json_body=body, headers=CALLER)).status == 201

    attributes = told(world)
    assert attributes.pop("agent-lifecycle.traceparent").startswith(f"00-{TRACE}-")
    assert attributes == {
        "tier": "gold",
        "traceparent": "its own",
        "agent-lifecycle.tracestate": "vendor=1",
    }


@pytest.mark.usefixtures("worker", "warm_pool_by_hand")
async def test_a_warm_agent_learns_the_trace_of_the_call_that_claims_it(
    start_app: StartApp, world: World, server: FakeServer, spans: Spans
) -> None:
    app = await start_app(tracing=spans.open(), agents=policy())
    await rounds(app, 2)
    assert spans.all() == []
    server.join("room")
    await app.settle()

    assert (await ask(app)).body["source"] == "warm"
    await app.settle()

    (agent,) = world.agents("room")
    assert agent.told
    call = spans.one(CALL)
    assert agent.told["attributes"]["agent-lifecycle.traceparent"] == f"00-{TRACE}-{ids(call)[1]}-01"
    claim, join = spans.one("livekit.claim"), spans.one("agent.join")
    assert claim.attributes
    assert claim.attributes["agent_lifecycle.result"] == "claimed"
    assert join.attributes
    assert join.attributes["agent_lifecycle.source"] == "warm"
    assert {ids(span)[0] for span in spans.all()} == {TRACE}


@pytest.mark.usefixtures("worker")
async def test_what_no_call_asks_for_has_no_spans(
    traced: App, server: FakeServer, livekit: FakeLiveKit, spans: Spans
) -> None:
    server.join("room")
    await traced.settle()
    await traced.sweep()
    for path in ("/healthz", "/readyz", "/metrics", "/docs"):
        async with traced._session.get(path) as response:  # type: ignore[union-attr]
            assert response.status == 200
    await traced.call_as_worker("report", {})

    assert livekit.calls
    assert spans.all() == []


async def test_a_rejected_call_and_a_poll_of_events_have_spans(traced: App, spans: Spans) -> None:
    assert (await traced.call("GET", "/api/livekit/events", auth=None)).status == 401
    assert (await traced.call("GET", "/api/livekit/events")).status == 200

    codes = [
        (span.attributes or {})["http.response.status_code"] for span in spans.all("GET /api/livekit/events")
    ]
    assert codes == [401, 200]


@pytest.mark.usefixtures("worker")
async def test_the_log_names_the_trace_of_a_call_and_of_its_agent(
    start_app: StartApp, server: FakeServer, world: World, spans: Spans
) -> None:
    with log_of_the_process(world.clock, "DEBUG", rate_limit=0) as log:
        app = await start_app(tracing=spans.open())
        await ask(app)
        server.join("room")
        await app.advance(1)
        await app.call("GET", "/healthz")

    lines = [json.loads(line) for line in log.output.getvalue().splitlines()]
    ours = [line for line in lines if line.get("trace_id") == TRACE]
    assert {line["action"] for line in ours} >= {"request", "dispatch", "transition"}
    moves = [line for line in lines if line["action"] == "transition"]
    assert {(line["to_state"], line["trace_id"]) for line in moves} == {
        ("creating", TRACE),
        ("starting", TRACE),
        ("active", TRACE),
    }
    (health,) = [line for line in lines if line.get("route") == "/healthz"]
    assert "trace_id" not in health


@pytest.mark.usefixtures("worker")
async def test_names_of_rooms_are_hidden_in_spans_too(
    start_app: StartApp, server: FakeServer, spans: Spans
) -> None:
    hide = Redaction(KEYPAIR.secret).hide
    app = await start_app(tracing=spans.open(hide))
    await app.call("POST", DISPATCH, json_body={"roomName": "a-secret-room"}, headers=CALLER)
    server.join("a-secret-room", "a-person")
    await app.advance(1)

    assert spans.names >= {CALL, "livekit.create_dispatch", "agent.join", "agent.ready"}
    exported = "".join(span.to_json() for span in spans.all())
    assert hide("a-secret-room") in exported
    assert "a-secret-room" not in exported
    assert "a-person" not in exported


@pytest.mark.usefixtures("worker")
async def test_without_tracing_nobody_is_told_of_the_callers_trace(app: App, world: World) -> None:
    await ask(app)

    assert told(world) == {}
