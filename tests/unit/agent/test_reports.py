"""The helper's reports: what the service is told, and what the worker does with the answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, cast

import pytest
from aiohttp import web
from livekit.agents import AgentServer, JobRequest
from reusable_agent.gate import Gate
from reusable_agent.reports import TASK_NAME, Reporter, attach


def job(number: int, room: str = "room") -> Any:
    """As `AgentServer.active_jobs` lists it."""

    @dataclass
    class Room:
        name: str = room

    @dataclass
    class Job:
        id: str = f"AJ_{number}"
        dispatch_id: str = f"AD_{number}"
        room: Any = field(default_factory=Room)

    @dataclass
    class Info:
        job: Any = field(default_factory=Job)

    return Info()


class FakeServer:
    """An AgentServer as far as the helper is concerned."""

    def __init__(self) -> None:
        self.id = "AW_1"
        self.active_jobs: list[Any] = []
        self.draining = False
        self.load_fnc: Callable[..., float] | None = lambda: 0.3
        self._agent_name = "agent"
        self._closed = False
        self._connecting = False
        self._request_fnc: Callable[[JobRequest], Awaitable[None]] = self.accept
        self.events: dict[str, Callable[..., None]] = {}
        self.finish = asyncio.Event()

    def on(self, event: str, callback: Callable[..., None]) -> None:
        self.events[event] = callback

    def _is_available(self) -> bool:
        return not self.draining

    async def accept(self, request: JobRequest) -> None:
        await self.finish.wait()
        await request.accept()

    def load(self) -> float:
        assert self.load_fnc is not None
        return self.load_fnc(self)

    async def offer(self, number: int) -> "FakeRequest":
        request = FakeRequest(f"AJ_{number}")
        await self._request_fnc(cast("JobRequest", request))
        return request


@dataclass
class FakeRequest:
    id: str
    accepted: bool = False
    #: As given to `reject`: with it LiveKit would ask no other worker.
    terminates: bool | None = None

    async def accept(self) -> None:
        self.accepted = True

    async def reject(self, *, terminate: bool = True) -> None:
        self.terminates = terminate


class FakeService:
    def __init__(self) -> None:
        self.drain = False
        self.status = 200
        self.reports: list[dict[str, Any]] = []
        self.has_news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.reports.append(await request.json())
        self.has_news.set()
        answer = {"success": True, "intervalS": 0.2, "drain": self.drain}
        return web.json_response(answer if self.status == 200 else {"code": "busy"}, status=self.status)

    async def hear(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first report from now on that the condition holds for."""
        heard = len(self.reports)
        async with asyncio.timeout(10):
            while True:
                for report in self.reports[heard:]:
                    if condition(report):
                        return report
                heard = len(self.reports)
                self.has_news.clear()
                await self.has_news.wait()


@pytest.fixture
async def service(aiohttp_server: Any, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    service = FakeService()
    app = web.Application()
    app.router.add_post("/api/livekit/worker/report", service.take)
    server = await aiohttp_server(app)
    monkeypatch.setenv("AGENT_LIFECYCLE_URL", str(server.make_url("/")))
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "a-secret-of-at-least-thirty-two-characters")
    return service


@pytest.fixture
async def server() -> FakeServer:
    server = FakeServer()
    server.finish.set()
    return server


def start(server: FakeServer, **arguments: Any) -> None:
    attach(cast("AgentServer", server), **arguments)
    server.events["worker_started"]()
    server.events["worker_registered"]("AW_1", object())


async def end() -> None:
    """As at the end of the process: livekit-agents cancels all tasks, and waits for them."""
    tasks = reporters()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def reporters() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == TASK_NAME]


@pytest.fixture
async def reporting(server: FakeServer, service: FakeService) -> AsyncIterator[FakeServer]:  # noqa: ARG001 - it is to be there
    """A worker with two slots that reports."""
    start(server, max_jobs=2, version="1.4")
    yield server
    await end()


async def test_a_report_says_what_the_worker_is_and_runs(
    reporting: FakeServer, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_AGENT_DEPLOYMENT", "v2")
    reporting.active_jobs = [job(1), job(2, "agent-warm.1")]
    reporting.load()
    report = await service.hear(lambda report: report["jobs"])
    assert len(report.pop("workerId")) == 32
    assert report.pop("number") > 1
    assert report == {
        "livekitId": "AW_1",
        "agentNames": ["agent"],
        "deployment": "v2",
        "version": "1.4",
        "helper": version("reusable-agent"),
        "slots": 2,
        "jobs": [
            {"jobId": "AJ_1", "dispatchId": "AD_1", "roomName": "room"},
            {"jobId": "AJ_2", "dispatchId": "AD_2", "roomName": "agent-warm.1"},
        ],
        "warm": 1,
        "load": 0.3,
        "accepting": False,
        "draining": False,
    }


async def test_a_new_registration_is_the_same_worker(reporting: FakeServer, service: FakeService) -> None:
    first = await service.hear(lambda _: True)
    reporting.id = "AW_2"
    reporting.events["worker_registered"]("AW_2", object())
    again = await service.hear(lambda report: report["livekitId"] == "AW_2")
    assert again["workerId"] == first["workerId"]
    numbers = [report["number"] for report in service.reports]
    assert numbers == sorted(set(numbers))


async def test_a_drain_stops_new_jobs_and_is_confirmed_at_once_and_can_be_cancelled(
    reporting: FakeServer, service: FakeService
) -> None:
    assert (await service.hear(lambda _: True))["accepting"]
    service.drain = True
    drained = await service.hear(lambda report: report["draining"])
    assert not drained["accepting"]
    assert reporting.load() == 1.0
    assert (await reporting.offer(1)).terminates is False
    # LiveKit's own drain is not begun: it cannot be undone.
    assert not reporting.draining

    service.drain = False

    assert (await service.hear(lambda report: not report["draining"]))["accepting"]
    assert (await reporting.offer(1)).accepted


async def test_the_last_report_is_a_leave_once_its_jobs_are_over(
    reporting: FakeServer, service: FakeService
) -> None:
    reporting.active_jobs = [job(1)]
    reporting._closed = True
    await service.hear(lambda _: True)
    await service.hear(lambda _: True)
    reporting.active_jobs = []
    assert await service.hear(lambda report: report.get("leaving"))
    assert [report.get("leaving") for report in service.reports].count(True) == 1


async def test_a_process_that_ends_takes_its_leave(server: FakeServer, service: FakeService) -> None:
    start(server)
    await service.hear(lambda _: True)
    await end()
    assert service.reports[-1]["leaving"]


@pytest.mark.parametrize("status", [503, 500])
async def test_an_outage_is_logged_once_and_its_end_too(
    status: int, reporting: FakeServer, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "reusable_agent")
    service.status = status
    for _ in range(3):
        await service.hear(lambda _: True)
    assert (await reporting.offer(1)).accepted
    service.status = 200
    for _ in range(2):
        await service.hear(lambda _: True)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_without_the_services_url_nothing_is_done(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "reusable_agent")
    monkeypatch.delenv("AGENT_LIFECYCLE_URL", raising=False)
    load = server.load_fnc
    start(server, max_jobs=1)
    assert reporters() == []
    assert server.load_fnc is load
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("the worker is not reported: AGENT_LIFECYCLE_URL")


def test_a_worker_takes_at_least_one_job() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        attach(cast("AgentServer", None), max_jobs=0)


# The gate


@pytest.fixture
async def gate(server: FakeServer) -> Gate:
    gate = Gate(cast("AgentServer", server), 2)
    gate.install()
    return gate


async def test_a_full_worker_rejects_for_itself_alone_and_looks_full(server: FakeServer, gate: Gate) -> None:
    server.active_jobs = [job(1)]
    assert (server.load(), gate.accepts) == (0.3, True)
    server.active_jobs = [job(1), job(2)]
    assert (server.load(), gate.accepts, gate.load) == (1.0, False, 0.3)
    assert (await server.offer(3)).terminates is False


@pytest.mark.usefixtures("gate")
async def test_jobs_that_come_together_do_not_exceed_the_slots(server: FakeServer) -> None:
    server.finish.clear()
    offers = [asyncio.create_task(server.offer(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert server.load() == 1.0
    server.finish.set()
    requests = await asyncio.gather(*offers)
    assert [request.accepted for request in requests] == [True, True, False]
    assert (await server.offer(4)).accepted


async def test_a_job_that_runs_already_is_not_counted_twice(server: FakeServer, gate: Gate) -> None:
    server.finish.clear()
    offer = asyncio.create_task(server.offer(1))
    await asyncio.sleep(0)
    server.active_jobs = [job(1)]
    assert gate.accepts
    server.finish.set()
    await offer


async def test_the_workers_own_load_is_called_as_it_wants(server: FakeServer) -> None:
    seen: list[object] = []

    def own(worker: object) -> float:
        seen.append(worker)
        return 0.8

    server.load_fnc = own
    Gate(cast("AgentServer", server), None).install()
    assert server.load() == 0.8
    assert seen == [server]


async def test_a_worker_that_has_lost_livekit_does_not_accept(server: FakeServer, gate: Gate) -> None:
    server._connecting = True
    assert not gate.accepts


def test_the_reporter_knows_livekit_agents_as_it_is() -> None:
    """Of what is private there, all exists in the installed version."""
    server = AgentServer()
    assert isinstance(server._agent_name, str)
    assert server._closed
    assert not server._connecting
    assert server._request_fnc is None
    assert callable(server._is_available)
    Reporter(server, max_jobs=None, version="")
