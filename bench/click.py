"""From the call for an agent to its first answer: LiveKit's own token dispatch, ours, and a warm agent.

LiveKit's own call is the person's join itself: its token names the agent. Ours finds the person in the room.
So two more figures compare like with like: without the join in either, and with it in both.
"""

import asyncio
import contextlib
import os
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from livekit import api
from reusable_agent import HOLDING_ROOM_PREFIX

from bench.figures import Figure, Unit
from devstack.callers import Caller
from devstack.holding import Holding
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.ports import LOOPBACK, free_port
from devstack.service import Service
from devstack.truth import eventually
from devstack.workers import LOADS_S, Worker

_PART = "click"
_LOADS_S = (0, 2, 5)
_CLICKS = 50
#: Between two clicks. Agents that load do so side by side.
_APART_S = 0.7
_WARM = 2
_POLICY = f"""
[agents.warm]
warm = {_WARM}
warm_refill_per_minute = 600
"""
_OWN, _OURS, _WARM_ONE = "LiveKit's own", "ours", "warm"
_GOAL_RATIO, _GOAL_MS = 0.5, 300.0
_POOL_TIMEOUT_S = 60.0
_TRIES = 3


class WrongSource(RuntimeError):
    """The agent has come in another way than the contender's."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """When the person began to join and was in, and when the agent was called for."""

    join_s: float
    in_s: float
    called_s: float
    #: The service's answer, which nobody waits for to speak.
    served: Awaitable[None] | None = None


class Contender(Protocol):
    """One way to get an agent."""

    @property
    def name(self) -> str: ...

    async def prepare(self) -> None:
        """Return once the next click may come."""

    async def begin(self, person: Person, room: str) -> Begun:
        """Let the person join, and call for the agent."""


@dataclass(frozen=True)
class Own:
    """LiveKit's own: the token with which the person joins has the agent's name."""

    server: LiveKitServer
    agent_name: str = "own"
    name: str = _OWN

    async def prepare(self) -> None:
        pass

    async def begin(self, person: Person, room: str) -> Begun:
        token = (
            api.AccessToken(self.server.api_key, self.server.api_secret)
            .with_identity("alice")
            .with_grants(api.VideoGrants(room_join=True, room=room))
            .with_room_config(
                api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=self.agent_name)])
            )
        )
        join_s = time.perf_counter()
        await person.join(self.server.url, token.to_jwt())
        return Begun(join_s=join_s, in_s=time.perf_counter(), called_s=join_s)


@dataclass(frozen=True)
class Ours:
    """The service's dispatch."""

    server: LiveKitServer
    caller: Caller
    agent_name: str = "ours"
    name: str = _OURS
    source: str = "dispatched"

    async def prepare(self) -> None:
        pass

    async def begin(self, person: Person, room: str) -> Begun:
        join_s = time.perf_counter()
        await person.join(self.server.url, member_token(self.server, room, "alice"))
        in_s = time.perf_counter()
        served = asyncio.create_task(self._call(room))
        return Begun(join_s=join_s, in_s=in_s, called_s=in_s, served=served)

    async def _call(self, room: str) -> None:
        answer = await self.caller.request_agent(room, agentName=self.agent_name)
        if answer.body["source"] != self.source:
            raise WrongSource(f"the agent of {room} was {answer.body['source']}, not {self.source}")


@dataclass(frozen=True)
class Warm:
    """The service's warm agent, from a pool that is full."""

    ours: Ours
    client: api.LiveKitAPI
    name: str = _WARM_ONE

    async def prepare(self) -> None:
        await eventually(self._is_full, "the pool is full", timeout_s=_POOL_TIMEOUT_S)

    async def begin(self, person: Person, room: str) -> Begun:
        return await self.ours.begin(person, room)

    async def _is_full(self) -> bool:
        rooms = (await self.client.room.list_rooms(api.ListRoomsRequest())).rooms
        names = [room.name for room in rooms if room.name.startswith(HOLDING_ROOM_PREFIX)]
        return sum([await self._waits(name) for name in names]) >= _WARM

    async def _waits(self, room: str) -> bool:
        holding = Holding(self.ours.server, self.client, self.ours.agent_name, name=room)
        with contextlib.suppress(api.TwirpError):
            return await holding.waits()
        return False


def measure(folder: Path) -> list[Figure]:
    """The p50 and p95 of each, in turn, with agents that load nothing, 2 s and 5 s."""
    clicks = int(os.environ.get("BENCH_CLICKS", str(_CLICKS)))
    figures: list[Figure] = []
    for loads_s in _LOADS_S:
        with _stack(folder / str(loads_s), loads_s) as (server, service):
            times = asyncio.run(_measure(server, service, clicks, loads_s))
        figures += _figures(times, f"loading {loads_s} s")
    return figures


@contextlib.contextmanager
def _stack(folder: Path, loads_s: int) -> Iterator[tuple[LiveKitServer, Service]]:
    """A LiveKit, a worker for each contender, and the service, which finds its worker there."""
    port = free_port()
    server = LiveKitServer(
        find_or_build(print), folder, webhook_urls=[f"http://{LOOPBACK}:{port}/api/livekit/webhook"]
    )
    policy = folder / "agents.toml"
    policy.write_text(_POLICY)
    service = Service(server, folder, agent_name="ours,warm", port=port, env={"AGENTS_FILE": str(policy)})
    workers = [
        Worker(server, folder, agent_name=name, env={LOADS_S: str(loads_s)})
        for name in ("own", "ours", "warm")
    ]
    try:
        server.start()
        for worker in workers:
            worker.start(wait=False)
        for worker in workers:
            worker.wait_until_registered()
        service.start()
        yield server, service
    finally:
        service.stop()
        for worker in workers:
            worker.stop()
        server.stop()


@dataclass
class Times:
    """One contender's times until the first answer, in ms."""

    from_call: list[float] = field(default_factory=list)
    from_join: list[float] = field(default_factory=list)
    from_in: list[float] = field(default_factory=list)

    def add(self, begun: Begun, answered_s: float) -> None:
        self.from_call.append((answered_s - begun.called_s) * 1e3)
        self.from_join.append((answered_s - begun.join_s) * 1e3)
        self.from_in.append((answered_s - begun.in_s) * 1e3)


async def _measure(server: LiveKitServer, service: Service, clicks: int, loads_s: int) -> dict[str, Times]:
    async with _contenders(server, service) as (contenders, client):
        times = {one.name: Times() for one in contenders}
        *cold, warm = contenders
        for _ in range(clicks):
            async with asyncio.TaskGroup() as tasks:
                for one in cold:
                    # What the last click has left behind ends meanwhile.
                    await asyncio.sleep(_APART_S)
                    task = tasks.create_task(_click(one, client, times[one.name]))
                    if not loads_s:
                        await asyncio.wait({task})
            # Those two may load side by side. This one has the machine for itself.
            await warm.prepare()
            await asyncio.sleep(_APART_S)
            await _click(warm, client, times[warm.name])
        return times


@contextlib.asynccontextmanager
async def _contenders(
    server: LiveKitServer, service: Service
) -> AsyncIterator[tuple[list[Contender], api.LiveKitAPI]]:
    async with (
        Caller(service.base_url) as caller,
        api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client,
    ):
        warm = Ours(server, caller, agent_name="warm", name=_WARM_ONE, source="warm")
        yield [Own(server), Ours(server, caller), Warm(warm, client)], client


async def _click(contender: Contender, client: api.LiveKitAPI, times: Times) -> None:
    for _ in range(_TRIES):
        room = f"click-{uuid.uuid4().hex[:12]}"
        try:
            async with Person() as person:
                begun = await contender.begin(person, room)
                await person.wait_for_agents()
                await person.say("hello")
                await person.next_answer()
                answered_s = time.perf_counter()
                if begun.served:
                    await begun.served
                times.add(begun, answered_s)
                return
        except WrongSource as wrong:
            # The service learns of a waiting agent a moment after LiveKit.
            print(wrong, flush=True)
            await contender.prepare()
            await asyncio.sleep(_APART_S)
        finally:
            # Its agent ends with the room.
            await client.room.delete_room(api.DeleteRoomRequest(room=room))
    raise WrongSource(f"{contender.name}: {_TRIES} times in a row")


def _figures(times: dict[str, Times], load: str) -> list[Figure]:
    own, ours, warm = times[_OWN], times[_OURS], times[_WARM_ONE]
    return [
        figure
        for what, pick in (("p50", statistics.median), ("p95", _p95))
        for figure in (
            _figure(f"{_OWN}, {load}, {what}", pick(own.from_call)),
            _figure(f"{_OURS}, {load}, {what}", pick(ours.from_call), pick(own.from_call)),
            _figure(f"{_WARM_ONE}, {load}, {what}", pick(warm.from_call), pick(own.from_call), _GOAL_RATIO),
            _figure(f"- without the join, {what}", pick(warm.from_in), pick(own.from_in)),
            _figure(f"- with the join, {what}", pick(warm.from_join), pick(own.from_join)),
            _figure(f"- whatever it loads, {what}", pick(warm.from_call), at_most=_GOAL_MS),
        )
    ]


def _figure(what: str, value: float, own: float | None = None, at_most: float | None = None) -> Figure:
    return Figure(
        part=_PART,
        what=what,
        value=value,
        unit=Unit.MS,
        reference=None if own is None else _OWN,
        reference_value=own,
        at_most=at_most,
    )


def _p95(times: list[float]) -> float:
    return sorted(times)[max(0, round(len(times) * 0.95) - 1)]
