"""The helper's channel to the service: what it signs, and what it makes of the answers."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from reusable_agent.lifecycle_service import LifecycleService, ServiceRefusedError, ServiceUnavailableError

from app.livekit.webhooks import check_digest
from app.web.auth import Authenticator

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"
ENVIRONMENT = {
    "AGENT_LIFECYCLE_URL": "https://agents.test/base/",
    "LIVEKIT_API_KEY": KEY,
    "LIVEKIT_API_SECRET": SECRET,
}


class Peer:
    """A server in the service's place."""

    def __init__(self) -> None:
        self.answer = web.json_response({"fine": True})
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        digest = Authenticator({KEY: (SECRET,)}, ()).worker_digest(request.headers["Authorization"])
        check_digest(body, digest)
        self.bodies.append(body)
        return self.answer


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def service(peer: Peer, aiohttp_server: Any) -> LifecycleService:
    app = web.Application()
    app.router.add_post("/base/api/livekit/worker/report", peer.take)
    server = await aiohttp_server(app)
    return LifecycleService(url=str(server.make_url("/base")), api_key=KEY, api_secret=SECRET)


async def test_a_request_is_signed_as_the_service_checks_it(
    service: LifecycleService, session: aiohttp.ClientSession, peer: Peer
) -> None:
    assert await service.post(session, "report", {"text": "ä"}, timeout_s=5) == {"fine": True}
    assert peer.bodies == ['{"text":"ä"}'.encode()]


@pytest.mark.parametrize("status", [500, 502, 503, 429, 302])
async def test_a_service_in_trouble_may_be_asked_again(
    service: LifecycleService, session: aiohttp.ClientSession, peer: Peer, status: int
) -> None:
    peer.answer = web.json_response({"code": "busy", "message": "not now"}, status=status)
    with pytest.raises(ServiceUnavailableError, match=f"{status} busy: not now"):
        await service.post(session, "report", {}, timeout_s=5)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422])
async def test_a_refusal_is_final(
    service: LifecycleService, session: aiohttp.ClientSession, peer: Peer, status: int
) -> None:
    peer.answer = web.json_response({"code": "gone", "message": "no such thing"}, status=status)
    with pytest.raises(ServiceRefusedError) as caught:
        await service.post(session, "report", {}, timeout_s=5)
    assert (caught.value.status, caught.value.code) == (status, "gone")


async def test_an_answer_that_is_no_object_is_trouble(
    service: LifecycleService, session: aiohttp.ClientSession, peer: Peer
) -> None:
    peer.answer = web.Response(text="<html>a proxy's page</html>")
    with pytest.raises(ServiceUnavailableError):
        await service.post(session, "report", {}, timeout_s=5)


async def test_nobody_there_is_trouble(session: aiohttp.ClientSession) -> None:
    nowhere = LifecycleService(url="http://127.0.0.1:1", api_key=KEY, api_secret=SECRET)
    with pytest.raises(ServiceUnavailableError):
        await nowhere.post(session, "report", {}, timeout_s=5)


def test_the_environment_names_the_service() -> None:
    service = LifecycleService.from_environment(ENVIRONMENT)
    assert service == LifecycleService(url="https://agents.test/base", api_key=KEY, api_secret=SECRET)
    assert SECRET not in repr(service)


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_without_a_variable_there_is_no_service(missing: str) -> None:
    for text in ("", " "):
        assert LifecycleService.from_environment(ENVIRONMENT | {"AGENT_LIFECYCLE_URL": text}) is None
    assert LifecycleService.from_environment(dict(ENVIRONMENT) | {missing: ""}) is None
