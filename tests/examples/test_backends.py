"""The example backends on the real stack: who is signed in talks with an agent, and nobody else does."""

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from livekit import api

from devstack.callers import Caller
from devstack.fixture_types import Call, StartService
from devstack.livekit_server import LiveKitServer
from devstack.npm import Npm, environment
from devstack.people import Person
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child
from devstack.service import API_KEY, Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker
from made_once import made_once

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
#: A password may have a colon; whose name has a dot has no rooms.
PEOPLE = {"alice": "one:more", "bob": "two", "alice.smith": "three"}
#: As READMEs say for development: httpx, unlike browsers, sends no `Secure` cookie to loopback.
DEVELOPMENT = {"INSECURE_COOKIE": "1"}
FOREIGN = ("https://evil.example", "null", "http://127.0.0.1:1")
#: A backend imports its framework, on a machine that does other things too.
_STARTS_WITHIN_S = 60.0
_INSTALLS_WITHIN_S = 180.0


#: The command that starts a backend on a port.
Command = Callable[[int], Sequence[str]]


def run_command(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=_INSTALLS_WITHIN_S)  # noqa: S603 - our own


def fastapi(factory: pytest.TempPathFactory) -> Command:
    """With what its README says to install, and nothing else."""
    source = EXAMPLES / "fastapi_backend"

    def install(folder: Path) -> None:
        # The README's commands install uv beside Python.
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert uv
        python = str(folder / "bin" / "python")
        run_command([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], source)
        run_command([uv, "pip", "install", "--quiet", "--python", python, "-r", "requirements.txt"], source)

    uvicorn = made_once(factory, "fastapi", install) / "bin" / "uvicorn"
    command = [str(uvicorn), "backend:app", "--app-dir", str(source), "--host", LOOPBACK, "--port"]
    return lambda port: [*command, str(port)]


def nextjs(factory: pytest.TempPathFactory) -> Command:
    """Its development server: a build takes a processor twenty seconds more, and serves the same handlers."""
    environ = environment()

    def copy_source(folder: Path) -> None:
        left_out = shutil.ignore_patterns("node_modules", ".next")
        shutil.copytree(EXAMPLES / "nextjs", folder, ignore=left_out)

    def install(folder: Path) -> None:
        copy_source(folder)
        npm = Npm(folder=folder, environ=environ)
        npm.run("ci", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
        npm.run("exec", "--", "tsc", "--noEmit")

    installed = made_once(factory, "nextjs", install)
    # Next.js allows one development server in a folder: each process of a test run has its own.
    folder = factory.mktemp("nextjs") / "backend"
    copy_source(folder)
    packages = "node_modules"
    shutil.copytree(installed / packages, folder / packages, symlinks=True, copy_function=os.link)
    node = shutil.which("node", path=environ["PATH"])
    assert node
    next_ = str(folder / "node_modules" / "next" / "dist" / "bin" / "next")
    command = [node, next_, "dev", str(folder), "--hostname", LOOPBACK, "--port"]
    return lambda port: [*command, str(port)]


@pytest.fixture(scope="session", params=[fastapi, nextjs])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Command:
    make: Callable[[pytest.TempPathFactory], Command] = request.param
    return make(tmp_path_factory)


@pytest.fixture
async def service(start_service: StartService, reusable_worker: Worker) -> Service:
    return await start_service(agent_name=reusable_worker.agent_name)


class Backend:
    """A backend that a test starts as an operator does, with an environment of its choice."""

    def __init__(self, command: Command, environ: Mapping[str, str], log_file: Path) -> None:
        self.port = free_port()
        self.base_url = f"http://{LOOPBACK}:{self.port}"
        self._command = command(self.port)
        self._environ = environ
        self._log_file = log_file

    def child(self, **environ: str) -> Child:
        env = {**os.environ, **self._environ, **environ}
        return Child("backend", self._command, log_file=self._log_file, env=env)

    def wait_for(self, child: Child) -> None:
        child.wait_until(lambda: _answers(self.base_url), what="answer", timeout_s=_STARTS_WITHIN_S)


@pytest.fixture
def unstarted(command: Command, livekit_server: LiveKitServer, tmp_path: Path) -> Backend:
    own = {
        "LIVEKIT_URL": livekit_server.url,
        "LIVEKIT_API_KEY": livekit_server.api_key,
        "LIVEKIT_API_SECRET": livekit_server.api_secret,
        "AGENT_SERVICE": "http://service.invalid",
        "AGENT_SERVICE_KEY": API_KEY,
        "SESSION_SECRET": "a-secret-of-at-least-thirty-two-characters",
        "PEOPLE": ",".join(map(":".join, PEOPLE.items())),
        "NEXT_TELEMETRY_DISABLED": "1",
    }
    return Backend(command, own, tmp_path / "backend.log")


@pytest.fixture
async def backend(unstarted: Backend, service: Service, children: list[Child]) -> AsyncIterator[str]:
    """The address of a running backend."""
    child = unstarted.child(AGENT_SERVICE=service.base_url, **DEVELOPMENT)
    children.append(child)
    child.start()
    await asyncio.to_thread(unstarted.wait_for, child)
    yield unstarted.base_url
    await asyncio.to_thread(child.stop)
    children.remove(child)


def _answers(base: str) -> bool:
    try:
        answer = httpx.post(f"{base}/api/token", json={"room": "nobody.room"})
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.UNAUTHORIZED


@pytest.fixture
async def browser(backend: str) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps cookies as a browser does; a call may wait for an agent."""
    async with httpx.AsyncClient(base_url=backend, timeout=90) as client:
        yield client


@pytest.fixture
async def caller(call: Call, service: Service) -> Caller:
    return await call(service)


async def sign_in(browser: httpx.AsyncClient, name: str) -> None:
    answer = await browser.post("/sign-in", json={"name": name, "password": PEOPLE[name]})
    assert answer.status_code == 204
    assert "httponly" in answer.headers["Set-Cookie"].lower()


async def test_a_person_who_signs_in_talks_with_an_agent_of_a_room_of_their_own(
    browser: httpx.AsyncClient, service: Service, caller: Caller, livekit_api: api.LiveKitAPI
) -> None:
    """One long test, since a backend takes seconds to start."""
    room = RoomTruth(livekit_api, f"alice.{uuid.uuid4().hex[:8]}")
    others_room, wanted = "bob.support", {"room": room.name}

    # Who has not signed in gets neither a token nor an agent, whatever they say.
    for path in ("/api/token", "/api/agent"):
        assert (await browser.post(path, json=wanted)).status_code == 401
    assert (await browser.delete("/api/agent", params=wanted)).status_code == 401
    for name, password in (("alice", "two"), ("alice", "one"), ("alice", ""), ("carol", "")):
        refused = await browser.post("/sign-in", json={"name": name, "password": password})
        assert refused.status_code == 401
    for body in (b"{", b"[]", b'{"name": "alice", "password": 123}', b'{"name": "alice"}'):
        headers = {"Content-Type": "application/json"}
        assert (await browser.post("/sign-in", content=body, headers=headers)).status_code in (400, 422)
    forged = {"Cookie": "session=eyJwZXJzb24iOiAiYWxpY2UifQ==.aSx.forged"}
    assert (await browser.post("/api/token", json=wanted, headers=forged)).status_code == 401

    # A page of another site signs nobody in, and nobody out, with whatever cookie it has.
    right = {"name": "alice", "password": PEOPLE["alice"]}
    for origin in FOREIGN:
        refused = await browser.post("/sign-in", json=right, headers={"Origin": origin})
        assert (refused.status_code, refused.headers.get("Set-Cookie")) == (403, None)
    await sign_in(browser, "alice")
    for origin in FOREIGN:
        foreign = {"Origin": origin}
        for path in ("/sign-out", "/api/token", "/api/agent"):
            assert (await browser.post(path, json=wanted, headers=foreign)).status_code == 403
        assert (await browser.delete("/api/agent", params=wanted, headers=foreign)).status_code == 403
    own_page = {"Origin": str(browser.base_url).rstrip("/")}
    assert (await browser.post("/api/token", json=wanted, headers=own_page)).status_code == 200

    granted = await browser.post("/api/agent", json=wanted)
    assert (granted.status_code, granted.json()) == (200, {"reused": False})
    token = (await browser.post("/api/token", json=wanted)).json()
    async with await Person().join(token["serverUrl"], token["participantToken"]) as alice:
        assert alice.identity == "alice"
        await alice.wait_for_agents(1)
        assert await alice.ask("hello") == "turn 1: hello"
        # A refresh requests it once more.
        assert (await browser.post("/api/agent", json=wanted)).json() == {"reused": True}
        (agent,) = await caller.agents()
        told = (await caller.call("GET", f"/api/livekit/agents/{agent['dispatchId']}")).body["metadata"]
        assert told == '{"person":"alice"}'

        # The room of somebody else, and names that only look like one's own.
        for name in (others_room, "alice", "alice.", "alicex.room", "bob.alice.room"):
            for path in ("/api/token", "/api/agent"):
                assert (await browser.post(path, json={"room": name})).status_code == 403
            assert (await browser.delete("/api/agent", params={"room": name})).status_code == 403
        assert [agent["roomName"] for agent in await caller.agents()] == [room.name]

        assert (await browser.delete("/api/agent", params=wanted)).status_code == 204
        await eventually(room.has_none, "the agent is gone")

    assert (await browser.post("/sign-out")).status_code == 204
    assert (await browser.post("/api/token", json=wanted)).status_code == 401

    # Of two people only one may enter a room.
    await sign_in(browser, "alice.smith")
    assert (await browser.post("/api/token", json={"room": "alice.smith.support"})).status_code == 403
    assert (await browser.post("/api/token", json=wanted)).status_code == 403

    # What is wrong with the service or the request, in the service's words.
    await sign_in(browser, "bob")
    invalid = await browser.post("/api/agent", json={"room": "bob.\u0007"})
    assert (invalid.status_code, invalid.json()) == (422, {"code": "invalid", "retryable": False})
    await asyncio.to_thread(service.stop)
    unreachable = await browser.post("/api/agent", json={"room": "bob.room"})
    assert (unreachable.status_code, unreachable.json()) == (
        503,
        {"code": "agents_unreachable", "retryable": True},
    )


async def test_a_backend_starts_with_a_good_secret_alone_and_its_cookie_is_for_https(
    unstarted: Backend,
) -> None:
    weak = unstarted.child(SESSION_SECRET="x" * 31)
    weak.start()
    try:
        assert await asyncio.to_thread(weak.wait, _STARTS_WITHIN_S) != 0
        assert "SESSION_SECRET has less than 32 characters" in weak.output()
    finally:
        await asyncio.to_thread(weak.stop)

    child = unstarted.child()
    child.start()
    try:
        await asyncio.to_thread(unstarted.wait_for, child)
        person = {"name": "alice", "password": PEOPLE["alice"]}
        async with httpx.AsyncClient(base_url=unstarted.base_url, timeout=30) as browser:
            cookie = (await browser.post("/sign-in", json=person)).headers["Set-Cookie"].lower()
        assert {"secure", "httponly", "samesite=lax", "max-age=28800"} <= set(cookie.split("; "))
    finally:
        await asyncio.to_thread(child.stop)
