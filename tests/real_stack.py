"""The real stack: one LiveKit, one worker of each kind and one webhook relay, for all tests of a process.

Started when a test first asks for it. A test starts its own services and people, and leaves no room behind.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from pathlib import Path

import pytest
from livekit import api

from devstack.callers import Caller
from devstack.chaos.fork_server import WORKER, ForkServer
from devstack.fixture_types import Call, Dispatch, JoinRoom, StartService, StartWorker
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.ports import LOOPBACK, free_port
from devstack.processes import Child
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind

_CHILDREN = pytest.StashKey[list[Child]]()
#: The names that the workers of the whole run answer to.
_SERVED = {"reusable-agent": WorkerKind.REUSABLE, "plain-agent": WorkerKind.PLAIN}
#: An agent is in long before that, if it comes at all. It ends no wait for one that has come.
_JOINS_WITHIN_S = 10.0


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CHILDREN] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the children's logs to a real test that fails."""
    report = yield
    is_real = item.get_closest_marker("real") is not None
    if is_real and call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        for child in item.config.stash[_CHILDREN]:
            report.sections.append((f"log of {child.name}", child.tail()))
    return report


@pytest.fixture(scope="session")
def children(request: pytest.FixtureRequest) -> list[Child]:
    """Whose logs a failing test shows."""
    return request.config.stash[_CHILDREN]


@pytest.fixture(scope="session")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def relay_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def livekit_server(stack_folder: Path, relay_port: int, children: list[Child]) -> Iterator[LiveKitServer]:
    """A test that stops it starts it again."""
    server = LiveKitServer(
        find_or_build(), stack_folder, webhook_urls=[f"http://{LOOPBACK}:{relay_port}/webhook"]
    )
    children.append(server.child)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def worker_fork_server(stack_folder: Path) -> Iterator[ForkServer]:
    """Forks workers, which saves each three seconds of imports."""
    fork_server = ForkServer(stack_folder / "workers", WORKER)
    yield fork_server
    fork_server.close()


@pytest.fixture(scope="session")
def example_workers(
    livekit_server: LiveKitServer, worker_fork_server: ForkServer, stack_folder: Path, children: list[Child]
) -> Iterator[dict[WorkerKind, Worker]]:
    """Both workers, started side by side."""
    workers = {
        kind: Worker(
            livekit_server,
            stack_folder,
            agent_name=agent_name,
            kind=kind,
            spawn=worker_fork_server.spawn,
        )
        for agent_name, kind in _SERVED.items()
    }
    for worker in workers.values():
        children.append(worker.child)
        worker.start(wait=False)
    for worker in workers.values():
        worker.wait_until_registered()
    yield workers
    for worker in workers.values():
        worker.stop()


@pytest.fixture
def living_workers(example_workers: dict[WorkerKind, Worker]) -> dict[WorkerKind, Worker]:
    """Both workers, started again if the test before has cost one its life."""
    for worker in example_workers.values():
        worker.revive()
    return example_workers


@pytest.fixture
def reusable_worker(living_workers: dict[WorkerKind, Worker]) -> Worker:
    """Answers to `reusable-agent`, with the helper."""
    return living_workers[WorkerKind.REUSABLE]


@pytest.fixture
def plain_worker(living_workers: dict[WorkerKind, Worker]) -> Worker:
    """Answers to `plain-agent`, without it."""
    return living_workers[WorkerKind.PLAIN]


@pytest.fixture(scope="session")
def obedient_worker(
    livekit_server: LiveKitServer, worker_fork_server: ForkServer, stack_folder: Path, children: list[Child]
) -> Iterator[Worker]:
    """Answers to `obedient-agent`, with the helper, and ends its session when told to."""
    worker = Worker(
        livekit_server,
        stack_folder,
        agent_name="obedient-agent",
        kind=WorkerKind.OBEDIENT,
        spawn=worker_fork_server.spawn,
    )
    children.append(worker.child)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
async def start_worker(
    livekit_server: LiveKitServer, worker_fork_server: ForkServer, tmp_path: Path, children: list[Child]
) -> AsyncIterator[StartWorker]:
    """A worker of this test's own, to kill, freeze or drain."""
    started: list[Worker] = []

    async def start(
        agent_name: str,
        *,
        kind: WorkerKind = WorkerKind.REUSABLE,
        drain_timeout_s: int = 3600,
        env: Mapping[str, str] | None = None,
    ) -> Worker:
        worker = Worker(
            livekit_server,
            # Its log is its own: who waits for a line there must not read one of another of its name.
            tmp_path / f"worker-{len(started)}",
            agent_name=agent_name,
            kind=kind,
            drain_timeout_s=drain_timeout_s,
            env=env,
            spawn=worker_fork_server.spawn,
        )
        started.append(worker)
        children.append(worker.child)
        await asyncio.to_thread(worker.start)
        return worker

    yield start
    for worker in started:
        await asyncio.to_thread(worker.stop)
        children.remove(worker.child)


@pytest.fixture
async def livekit_api(livekit_server: LiveKitServer) -> AsyncIterator[api.LiveKitAPI]:
    if not livekit_server.child.running:
        # A test that has stopped it failed before it could start it again.
        await asyncio.to_thread(livekit_server.start)
    async with api.LiveKitAPI(
        livekit_server.http_url, livekit_server.api_key, livekit_server.api_secret
    ) as client:
        yield client


async def _delete(client: api.LiveKitAPI, room: str) -> None:
    """Delete a room, but not under an agent that is connecting: it tries again, and makes the room anew."""
    truth = RoomTruth(client, room)

    async def nobody_is_connecting() -> bool:
        if await truth.room() is None or await truth.agents():
            return True
        try:
            dispatches = await client.agent_dispatch.list_dispatch(room)
        except api.TwirpError:
            # It has closed meanwhile.
            return True
        made_at = [one.state.created_at / 1e9 for one in dispatches if one.agent_name in _SERVED]
        return time.time() - max(made_at, default=0) > _JOINS_WITHIN_S

    await eventually(nobody_is_connecting, f"no agent is on its way into {room}")
    await truth.delete()


async def _delete_all(client: api.LiveKitAPI) -> None:
    for room in (await client.room.list_rooms(api.ListRoomsRequest())).rooms:
        await _delete(client, room.name)


@pytest.fixture
async def relay(livekit_api: api.LiveKitAPI, relay_port: int) -> AsyncIterator[WebhookRelay]:
    """LiveKit's webhooks go to each address in its `targets`.

    No room outlives the test: the next service would take its agents for its own.
    """
    # An agent that connected late may have made its room anew after the test before.
    await _delete_all(livekit_api)
    relay = WebhookRelay(relay_port)
    await relay.start()
    yield relay
    await _delete_all(livekit_api)
    await relay.stop()


@pytest.fixture(scope="session")
def fork_server(stack_folder: Path) -> Iterator[ForkServer]:
    """Forks services, which saves each a second of imports; the tests of commands and of `dev` start cold."""
    fork_server = ForkServer(stack_folder)
    yield fork_server
    fork_server.close()


@pytest.fixture
async def start_service(
    livekit_server: LiveKitServer,
    fork_server: ForkServer,
    relay: WebhookRelay,
    tmp_path: Path,
    children: list[Child],
) -> AsyncIterator[StartService]:
    """A real service that LiveKit's webhooks reach; several may run beside each other."""
    started: list[Service] = []

    async def start(*, agent_name: str = "reusable-agent", ready: bool = True, **env: str) -> Service:
        number = len(started)
        service = Service(
            livekit_server,
            tmp_path / f"service-{number}",
            agent_name=agent_name,
            env=env,
            name=f"service-{number}",
            spawn=fork_server.spawn,
        )
        started.append(service)
        children.append(service.child)
        relay.targets.append(service.webhook_url)
        await asyncio.to_thread(service.start if ready else service.launch)
        return service

    yield start
    for service in started:
        relay.targets.remove(service.webhook_url)
        await asyncio.to_thread(service.stop)
        children.remove(service.child)


@pytest.fixture
async def join_room(livekit_server: LiveKitServer) -> AsyncIterator[JoinRoom]:
    """People who are gone when the test is over."""
    people: list[Person] = []

    async def join(room: str, identity: str = "alice", *, microphone: bool = True) -> Person:
        person = Person()
        people.append(person)
        token = member_token(livekit_server, room, identity)
        return await person.join(livekit_server.url, token, microphone=microphone)

    yield join
    await asyncio.gather(*(person.leave() for person in people))


@pytest.fixture
async def room_name(livekit_api: api.LiveKitAPI) -> AsyncIterator[str]:
    """A room of this test's own, which outlives its people for a minute, and is deleted at the end."""
    name = f"room-{uuid.uuid4().hex[:12]}"
    await livekit_api.room.create_room(
        api.CreateRoomRequest(name=name, departure_timeout=60, empty_timeout=60)
    )
    yield name
    await _delete(livekit_api, name)


@pytest.fixture
def dispatch(livekit_api: api.LiveKitAPI) -> Dispatch:
    """Puts an agent into a room as LiveKit itself does it, without our service."""

    async def dispatch(room: str, agent_name: str, *, metadata: str = "") -> api.AgentDispatch:
        return await livekit_api.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata=metadata)
        )

    return dispatch


@pytest.fixture
async def truth(livekit_api: api.LiveKitAPI) -> AsyncIterator[RoomTruth]:
    """A room that does not exist yet, and what LiveKit itself says about it.

    The service has to make the room so that it outlives the TTL.
    """
    truth = RoomTruth(livekit_api, f"room-{uuid.uuid4().hex[:12]}")
    yield truth
    await _delete(livekit_api, truth.name)


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    callers: list[Caller] = []

    async def open_caller(service: Service) -> Caller:
        callers.append(await Caller(service.base_url).__aenter__())
        return callers[-1]

    yield open_caller
    for caller in callers:
        await caller.__aexit__(None, None, None)
