"""The service as a memory: what it is asked, and what its refusals mean."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import reusable_agent
from aiohttp import web
from livekit.agents import utils
from reusable_agent import Conversation, MemoryClosedError, memory
from reusable_agent.lifecycle_service import LifecycleService, ServiceRefusedError, ServiceUnavailableError
from reusable_agent.memory import ServiceMemory

SECRET = "a-secret-of-at-least-thirty-two-characters"
CONVERSATION = Conversation(
    room_name="room ä", room_sid="RM_1", agent_name="agent", job_id="AJ_1", dispatch_id="AD_1"
)
NAMES = {
    "roomName": "room ä",
    "roomSid": "RM_1",
    "agentName": "agent",
    "jobId": "AJ_1",
    "dispatchId": "AD_1",
}
HISTORY = {"items": [{"type": "message"}]}


class Peer:
    """A server in the service's place."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"success": True}
        self.status = 200
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.asked.append((request.match_info["what"], await request.json()))
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def service_memory(
    peer: Peer, aiohttp_server: Any, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> ServiceMemory:
    # Of the job that is running.
    monkeypatch.setattr(utils.http_context, "http_session", lambda: session)
    app = web.Application()
    app.router.add_post("/api/livekit/worker/memory/{what}", peer.take)
    server = await aiohttp_server(app)
    service = LifecycleService(url=str(server.make_url("")).rstrip("/"), api_key="key", api_secret=SECRET)
    return ServiceMemory(service)


async def test_what_it_is_asked(service_memory: ServiceMemory, peer: Peer) -> None:
    assert await service_memory.load(CONVERSATION) is None
    peer.answer = {"history": HISTORY}
    assert await service_memory.load(CONVERSATION) == HISTORY
    for _ in range(2):
        await service_memory.save(CONVERSATION, HISTORY)
    await service_memory.forget(CONVERSATION)
    assert peer.asked == [
        ("load", NAMES),
        ("load", NAMES),
        ("save", NAMES | {"number": 1, "history": HISTORY}),
        ("save", NAMES | {"number": 2, "history": HISTORY}),
        ("forget", NAMES),
    ]


@pytest.mark.parametrize("code", ["memory_taken", "memory_forgotten"])
async def test_a_conversation_that_is_not_its_own_any_more_is_closed(
    service_memory: ServiceMemory, peer: Peer, code: str
) -> None:
    peer.status, peer.answer = 409, {"code": code, "message": "no"}
    with pytest.raises(MemoryClosedError, match=code):
        await service_memory.save(CONVERSATION, HISTORY)


async def test_a_service_that_keeps_none_is_logged_once(
    service_memory: ServiceMemory, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.status, peer.answer = 404, {"code": "memory_off", "message": "no"}
    for _ in range(3):
        with pytest.raises(MemoryClosedError):
            await service_memory.load(CONVERSATION)
    assert len([one for one in caplog.records if "keeps none" in one.message]) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(503, ServiceUnavailableError), (401, ServiceRefusedError), (413, ServiceRefusedError)],
)
async def test_other_trouble_may_pass(
    service_memory: ServiceMemory, peer: Peer, status: int, error: type[Exception]
) -> None:
    peer.status = status
    with pytest.raises(error):
        await service_memory.save(CONVERSATION, HISTORY)


def test_without_the_services_address_there_is_none_and_it_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory._note_no_service.cache_clear()
    monkeypatch.delenv("AGENT_LIFECYCLE_URL", raising=False)
    assert [reusable_agent.service_memory() for _ in range(3)] == [None] * 3
    assert len([one for one in caplog.records if "AGENT_LIFECYCLE_URL" in one.message]) == 1


def test_with_the_services_address_it_is_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_LIFECYCLE_URL", "http://service")
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    assert isinstance(reusable_agent.service_memory(), ServiceMemory)
