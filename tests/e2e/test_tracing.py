"""One trace over the service and a real worker, as a collector gets it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from devstack.fixture_types import Call, JoinRoom, StartService, StartWorker
from devstack.ports import LOOPBACK
from devstack.truth import RoomTruth, eventually

pytestmark = pytest.mark.real

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DISPATCH = "/api/livekit/dispatch-agent"
SERVICE, WORKER = "agent-lifecycle", "worker"


@dataclass
class Collector:
    """It takes spans by OTLP over HTTP."""

    url: str = ""
    #: With the name of the service that sent each.
    spans: list[tuple[str, Span]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            told = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [(told["service.name"], span) for span in of_scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def of_trace(self) -> dict[str, tuple[str, Span]]:
        """By name; of several with the same name the last."""
        return {span.name: (by, span) for by, span in self.spans if span.trace_id.hex() == TRACE}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    yield collector
    await runner.cleanup()


async def test_one_trace_goes_from_a_call_over_livekit_to_the_session_of_the_agent(
    collector: Collector,
    start_worker: StartWorker,
    start_service: StartService,
    join_room: JoinRoom,
    truth: RoomTruth,
    call: Call,
) -> None:
    export = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    agent_name = f"agent-{uuid.uuid4().hex[:6]}"
    await start_worker(agent_name, env=export | {"OTEL_SERVICE_NAME": WORKER})
    service = await start_service(agent_name=agent_name, ready=True, **export)
    caller = await call(service)
    person = await join_room(truth.name)

    answer = await caller.call(
        "POST",
        DISPATCH,
        json={"roomName": truth.name, "wait": "ready"},
        headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
    )
    assert (answer.status, answer.body["ready"]) == (200, True)
    assert await person.ask("hello") == "turn 1: hello"
    # The span of a session ends with it.
    await caller.end_agent(truth.name)

    expected = {
        f"POST {DISPATCH}": SERVICE,
        "livekit.create_dispatch": SERVICE,
        "agent.join": SERVICE,
        "agent.ready": SERVICE,
        "session_start": WORKER,
        "llm_request": WORKER,
        "agent_session": WORKER,
    }

    def job() -> Span | None:
        return next((span for _, span in collector.spans if span.name == "job_entrypoint"), None)

    async def is_complete() -> bool:
        return expected.keys() <= collector.of_trace().keys() and job() is not None

    await eventually(is_complete, "the whole trace has arrived")
    spans = collector.of_trace()
    assert {name: spans[name][0] for name in expected} == expected
    called = spans[f"POST {DISPATCH}"][1]
    assert called.parent_span_id.hex() == SPAN
    for name in ("livekit.create_dispatch", "agent.join", "agent.ready", "agent_session"):
        assert spans[name][1].parent_span_id == called.span_id, name
    join, ready = spans["agent.join"][1], spans["agent.ready"][1]
    assert join.start_time_unix_nano < join.end_time_unix_nano <= ready.end_time_unix_nano
    failed = [name for name, (_, span) in spans.items() if span.status.code == Status.STATUS_CODE_ERROR]
    assert failed == []
    # livekit-agents begins it before anybody's code runs.
    begun = job()
    assert begun
    assert [link.span_id for link in begun.links] == [called.span_id]
