"""The soak: a world that is what it tells, a LiveKit that the service's client understands, and figures."""

import heapq
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.clock import SteadyClock
from app.lifecycle import UNTOLD
from app.livekit.client import LiveKitClient
from app.livekit.interface import Probe
from app.livekit.webhooks import translate
from app.state.changes import RoomEventKind
from app.state.presence import ParticipantKind
from bench import __main__ as bench
from bench.contenders import KEYPAIR
from bench.seeds import AGENT_NAME
from bench.soak_figures import Sample, figures_of
from bench.soak_livekit import LiveKitApi
from bench.soak_tenths import Tenths
from bench.soak_world import Load, Room, World

LOAD = Load(agents=10, plain_rooms=5, webhooks_per_second=50, ttl_s=30, visit_s=60, begins_per_second=1)


class Stage:
    """A world on a clock of its own, with a service that ends an agent when its TTL has passed."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.told: list[tuple[Room, str]] = []
        self.calls: list[Room] = []
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.world = World(
            LOAD,
            emit=lambda room, body: self.told.append((room, body)),
            call=self._serve,
            later=self._plan,
            now_s=lambda: self.now_s,
        )

    def run(self, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self._run_planned(self.now_s + 0.05)
            if len(self.world.served) < LOAD.agents:
                self.world.begin_room()
            self.world.move()

    def run_quietly(self, duration_s: float) -> None:
        self.world.be_quiet()
        self._run_planned(self.now_s + duration_s)

    def _run_planned(self, until_s: float) -> None:
        while self._planned and self._planned[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._planned)
            act()
        self.now_s = until_s

    def _plan(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (self.now_s + after_s, next(self._numbers), act))

    def _serve(self, room: Room) -> None:
        self.calls.append(room)
        if not room.dispatches:
            self.world.create_dispatch(room, "row", "")
        self._plan(1.0, lambda: self._look(room))

    def _look(self, room: Room) -> None:
        if room.people:
            self._plan(1.0, lambda: self._look(room))
        else:
            self._plan(LOAD.ttl_s, lambda: self._expire(room))

    def _expire(self, room: Room) -> None:
        if not room.people:
            for dispatch_id in list(room.dispatches):
                self.world.delete_dispatch(room, dispatch_id)


def test_the_world_is_what_its_webhooks_tell() -> None:
    stage = Stage()
    stage.world.begin_plain_rooms()
    stage.run(600)
    told: dict[str, set[str]] = {}
    ids = set()
    for _, body in stage.told:
        event = translate(body.encode()).event
        assert event is not None
        ids.add(event.event_id)
        match event.kind:
            case RoomEventKind.STARTED:
                assert event.room.sid not in told
                told[event.room.sid] = set()
            case RoomEventKind.FINISHED:
                assert told.pop(event.room.sid) == set()
            case RoomEventKind.JOINED:
                assert event.participant is not None
                told[event.room.sid].add(event.participant.sid)
            case RoomEventKind.LEFT:
                assert event.participant is not None
                told[event.room.sid].remove(event.participant.sid)
    assert len(ids) == len(stage.told)
    assert told == {
        room.sid: {one.sid for one in (*room.people.values(), *room.agents.values())}
        for room in stage.world.rooms.values()
    }


def test_rooms_come_and_go_and_as_many_have_an_agent() -> None:
    stage = Stage()
    stage.world.begin_plain_rooms()
    stage.run(600)
    events = [json.loads(body)["event"] for _, body in stage.told]
    assert events.count("room_finished") > 3 * LOAD.agents
    assert len(stage.world.served) == LOAD.agents
    # People came back to an agent that they had left.
    assert len(stage.calls) > len(set(stage.calls))


def test_in_the_quiet_nobody_moves_and_agents_without_people_end() -> None:
    stage = Stage()
    stage.world.begin_plain_rooms()
    stage.run(600)
    people = {name: set(room.people) for name, room in stage.world.rooms.items() if room.people}
    stage.run_quietly(600)
    assert {name: set(room.people) for name, room in stage.world.rooms.items() if room.people} == people
    for room in stage.world.rooms.values():
        assert bool(room.agents) == (room.has_agent and bool(room.people))


@asynccontextmanager
async def client_of(world: World) -> AsyncIterator[LiveKitClient]:
    app = web.Application()
    app.router.add_post("/twirp/{service}/{method}", LiveKitApi(world).answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield LiveKitClient(session, str(server.make_url("")), KEYPAIR, SteadyClock())


async def test_the_service_understands_the_stub() -> None:
    stage = Stage()
    stage.world.begin_plain_rooms()
    room = next(iter(stage.world.rooms.values()))
    async with client_of(stage.world) as livekit:
        assert await livekit.can_probe()
        assert [one.name for one in await livekit.list_rooms()] == list(stage.world.rooms)
        assert await livekit.find_room("elsewhere") is None
        assert (await livekit.ensure_room(room.name, 30)).sid == room.sid
        created = await livekit.create_dispatch(room.name, AGENT_NAME, "row-1", UNTOLD)
        stage.run_quietly(5)
        (identity,) = created.agent_identities
        assert await livekit.list_dispatches(room.name) == (created,)
        assert created.row_id == "row-1"
        (agent,) = await livekit.list_participants(room.name)
        assert (agent.kind, agent.identity, agent.agent_name) == (ParticipantKind.AGENT, identity, AGENT_NAME)
        assert await livekit.probe(room.name, identity) is Probe.OPEN
        assert await livekit.delete_dispatch(room.name, created.id)
        assert not await livekit.delete_dispatch(room.name, created.id)
        assert await livekit.remove_participant(room.name, identity)
        assert not await livekit.remove_participant(room.name, identity)
        assert await livekit.list_participants(room.name) == ()
        assert await livekit.probe(room.name, identity) is Probe.SILENT


def test_tenths_tell_the_first_from_the_last() -> None:
    tenths = Tenths(100, 50)
    for second in range(-5, 60):
        tenths.add(100 + second, second / 1e3)
    quantiles = tenths.quantiles()
    assert quantiles["first"] == {"p50": 2, "p99": 4}
    assert quantiles["last"] == {"p50": 47, "p99": 49}
    assert quantiles["whole"]["p99"] == 49


def sample(number: int, **changes: float) -> Sample:
    fields: defaultdict[str, float] = defaultdict(float)
    fields |= {"at_s": 60.0 * number, "taken": 60_000 * number, "agents": 5_000, "resident_mb": 100.0}
    names = Sample.__dataclass_fields__
    return Sample(**{name: fields[name] for name in names} | changes)  # type: ignore[arg-type]


def test_what_grows_misses_its_goal() -> None:
    samples = [sample(0), *(sample(number, cpu_s=30.0 * number) for number in range(1, 10))]
    samples.append(sample(10, cpu_s=330, resident_mb=150.0, agents=4_900))
    steady, slower = {"p50": 1.0, "p99": 2.0}, {"p50": 1.0, "p99": 5.0}
    figures = figures_of(
        samples,
        webhooks_ms={"whole": steady, "first": steady, "last": slower},
        calls_ms={"whole": steady, "first": steady, "last": steady},
        ttl_lags=Tenths(0, 600),
        errors=1,
        different_rooms=2,
        log_lines=0,
        per_second=1_000,
    )
    assert {figure.what for figure in figures if figure.is_met is False} == {
        "answers other than 200",
        "rooms that differ from LiveKit's once it is quiet",
        "a webhook's time, p99, in the last tenth",
        "CPU for each webhook, with all that follows, in the last tenth",
        "memory at the end",
    }
    # No TTL has ended: there is nothing to judge by.
    assert {figure.is_met for figure in figures if figure.what == "a TTL's lag, p99, in the last tenth"} == {
        None
    }
    by_name = {figure.what: figure.value for figure in figures}
    assert by_name["webhooks taken"] == pytest.approx(1_000)
    assert by_name["agents alive, the fewest"] == 4_900


def test_the_soak_runs_only_when_it_is_named() -> None:
    assert "soak" in bench.LONG
    assert "soak" not in bench.PARTS
    assert "soak" in bench.SMOKE
