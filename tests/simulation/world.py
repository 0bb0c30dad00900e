"""The simulated world: LiveKit and its people, the post, the database, and the lives of the service in it."""

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import Any

from app.config.agents import AgentPolicy
from app.config.settings import Config
from app.control.drift import ROLLING_ROUNDS
from app.control.requests import AgentGrant
from app.errors import AtCapacity, ServiceError
from app.lifecycle import Restart, Share, State
from app.lifecycle.mode import Mode
from app.lifecycle.warm import HOLDING_PREFIX, is_holding_room
from app.state.changes import Outcome, RoomEvent
from fakes.clock import SECOND_US, START_US
from fakes.rooms import FakeAgent, FakeRoom, FakeWorker
from fakes.rooms import Process as WorkerProcess
from integration.harness import AGENT, KEYPAIR, OTHER_AGENT
from simulation.database import Database
from simulation.loop import SimulatedClock, SimulatedLoop
from simulation.post import PostOffice, Service
from simulation.process import Process, task_factory
from simulation.watch import Removal, WatchedServer

AGENT_NAMES = (AGENT, OTHER_AGENT)
TTL_S, INTERVAL_S, LIVENESS_S, JOIN_TIMEOUT_S = 60, 20, 10, 15
#: Of the second agent, where it has limits.
UNVISITED_TTL_S, PHONE_TTL_S, MAX_SESSION_S, WARN_BEFORE_S = 30, 0, 150, 20
#: Rooms with the second agent at once, where it has limits, and how long some calls wait for their turn.
MAX_AGENTS, QUEUE_S = 1, 10
#: After this long in quiet nothing is left to be done: what is found out at the end of an interval has its
#: TTL from then on, and another interval is for what did not succeed at once.
CALM_S = TTL_S + 3 * INTERVAL_S
#: A room that nothing points to is looked at in one round out of so many (`app.census`).
LONG_CALM_S = CALM_S + (ROLLING_ROUNDS + 1) * INTERVAL_S
#: LiveKit was asked who is in this long before a deletion at most: four calls, each of them hanging.
_FRESH_S = 25

Key = tuple[str, str]


class Want(StrEnum):
    """Whether people of a room are owed an agent, as far as callers can tell."""

    YES = auto()
    NO = auto()
    MAYBE = auto()  #: nobody can tell, as after a call that failed, or after the agent has finished


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a world is made, and what its service is told to do in it."""

    seed: int
    replicas: int = 1
    #: How far LiveKit's clock is ahead of ours.
    livekit_ahead_s: int = 0
    mode: Mode = Mode.ENFORCE
    restart: Restart = Restart.ON_FAILURE
    #: Whether sessions without the helper close with their user; the service is told the truth.
    closes_with_user: bool = True
    #: False: as before livekit-server 1.13.2, in which no dispatch carries its row's id.
    keeps_attributes: bool = True
    #: Whether the second agent has, or may get, TTLs of its own and a longest session, and the first
    #: one deployments.
    has_limits: bool = False
    #: How many agents of the first name wait in a pool.
    warm: int = 0


class Journal(logging.Handler):
    """What happened, for whoever has to understand a failure; and an alarm for what nobody foresaw."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.alarms: list[str] = []
        self._clock = clock

    def note(self, line: str) -> None:
        self.lines.append(f"{(self._clock.now() - START_US) / SECOND_US:10.3f} {line}")

    def emit(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        names = (
            "room",
            "agent",
            "event",
            "from_state",
            "to_state",
            "end_reason",
            "people",
            "dispatch_id",
            "code",
        )
        told = [f"{name}={fields[name]}" for name in names if fields.get(name) is not None]
        self.note(f"    {fields.get('action')}: {record.getMessage()} {' '.join(told)}")
        if record.exc_info:
            self.alarms.append(logging.Formatter().format(record))


class World:
    def __init__(self, database: Path, template: Path, setting: Setting) -> None:
        self.setting = setting
        self.loop = SimulatedLoop()
        self.loop.set_task_factory(task_factory)
        self.loop.set_exception_handler(lambda _, context: self.problems.append(str(context)))
        self.clock = SimulatedClock(self.loop)
        self.random = random.Random(setting.seed)  # noqa: S311 - it is to be the same each time
        self.replicas = setting.replicas
        #: Whether the policy says so now; what was dispatched before keeps its own.
        self.limits_in_force = setting.has_limits
        #: As the policy says now.
        self.warm = setting.warm
        #: Whether no room has got the second agent past its limit: by others, or while it had none.
        self.is_capped = setting.has_limits and setting.mode.keeps_one
        #: The terms that each row had when it was last looked at; None while a reload may change them.
        self.terms: dict[str, str] | None = {}
        self._updates_under_way = 0
        self.database = Database(database)
        self.database.renew(template)
        self.post = PostOffice(self.loop, self._choose, self._on_delivered, self.random)
        self.server = WatchedServer(
            self.clock,
            KEYPAIR,
            self.post,
            ahead_us=setting.livekit_ahead_s * SECOND_US,
            closes_with_user=setting.closes_with_user,
        )
        self.server.keeps_attributes = setting.keeps_attributes
        self.server.watch(self._judge_removal, self._judge_creation, self._judge_claim, self._on_room_closed)
        self.processes: list[Process] = []
        self.problems: list[str] = []
        #: What errands have run into: a promise that was not kept, or an error that nobody foresaw.
        self.failed: list[BaseException] = []
        self.wants: defaultdict[Key, Want] = defaultdict(lambda: Want.NO)
        #: Grows with everything that makes the outcome of a call under way uncertain.
        self.epochs: defaultdict[Key, int] = defaultdict(int)
        #: From when to when agents of a room were wished away; `None`: the wish is under way.
        self.wishes: defaultdict[Key, list[tuple[int, int | None]]] = defaultdict(list)
        #: Where a hold was granted, and nobody has asked for its end since.
        self.held: set[Key] = set()
        #: The places of their wishes.
        self.hold_wishes: dict[Key, int] = {}
        #: How often somebody has asked for the end of a hold, and how many do now.
        self.releases: Counter[Key] = Counter()
        self.releases_under_way: Counter[Key] = Counter()
        self.called_at: defaultdict[Key, int] = defaultdict(int)
        self.calls_under_way: Counter[Key] = Counter()
        self.calls_over: Counter[Key] = Counter()
        self.errands: set[asyncio.Task[None]] = set()
        self._failures_seen = (0, 0)
        self.journal = Journal(self.clock)
        logging.getLogger("app").addHandler(self.journal)
        logging.getLogger("app").setLevel(logging.INFO)
        self.post.journal = self.server.journal = self.journal.note

    # Lives of the service

    @property
    def config(self) -> Config:
        return Config(
            livekit_url="ws://livekit.test",
            livekit_api_key=KEYPAIR.key,
            livekit_api_secret=KEYPAIR.secret,
            agent_names=AGENT_NAMES,
            database_url="",
            agent_ttl_s=TTL_S,
            cleanup_interval_ms=INTERVAL_S * 1_000,
            join_timeout_s=JOIN_TIMEOUT_S,
            liveness_interval_s=LIVENESS_S,
            mode=self.setting.mode,
            restart=self.setting.restart,
            agent_closes_with_user=self.setting.closes_with_user,
            agents=self._agents,
        )

    @property
    def _agents(self) -> dict[str, AgentPolicy]:
        if self.limits_in_force:
            return {AGENT: self._split, OTHER_AGENT: self._limits}
        return {AGENT: self._plain, OTHER_AGENT: replace(self._plain, warm=0)}

    @property
    def _plain(self) -> AgentPolicy:
        return AgentPolicy(
            ttl_s=TTL_S,
            join_timeout_s=JOIN_TIMEOUT_S,
            restart=self.setting.restart,
            closes_with_user=self.setting.closes_with_user,
            warm=self.warm,
        )

    @property
    def _limits(self) -> AgentPolicy:
        return AgentPolicy(
            ttl_s=TTL_S,
            unvisited_ttl_s=UNVISITED_TTL_S,
            phone_ttl_s=PHONE_TTL_S,
            max_session_s=MAX_SESSION_S,
            warn_before_s=WARN_BEFORE_S,
            max_agents=MAX_AGENTS,
            join_timeout_s=JOIN_TIMEOUT_S,
            restart=self.setting.restart,
            closes_with_user=self.setting.closes_with_user,
        )

    @property
    def _split(self) -> AgentPolicy:
        """One room has a deployment without workers, and falls back to the other."""
        shares = (Share(deployment="v2", weight=50), Share(deployment="", weight=50))
        return replace(self._plain, deployment=shares)

    def is_limited(self, agent_name: str) -> bool:
        return self.setting.has_limits and agent_name == OTHER_AGENT

    @property
    def up(self) -> list[Process]:
        return [process for process in self.processes if process.is_up]

    def _choose(self) -> Process | None:
        return self.random.choice(self.up) if self.up else None

    async def fill_up(self) -> None:
        """Start what is not running; one that cannot start is left to the next time."""
        self.processes = self.up
        while len(self.processes) < self.replicas:
            process = Process(
                self.config,
                self.database,
                self.server,
                self.clock,
                replicas=self.replicas,
                rng=self.random,
            )
            if not await process.start():
                return
            self.processes.append(process)

    async def close(self) -> None:
        for process in self.processes:
            process.kill()
        current = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not current]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def dispose(self) -> None:
        self.loop.finish(self.close())
        self.loop.close()
        logging.getLogger("app").removeHandler(self.journal)
        logging.getLogger("app").setLevel(logging.NOTSET)

    # Callers

    def send(self, coroutine: Any) -> None:
        """An errand of somebody outside of the service, which goes on by itself."""
        task = self.loop.create_task(coroutine, context=Context())
        self.errands.add(task)
        task.add_done_callback(self._on_errand_done)

    def _on_errand_done(self, task: asyncio.Task[None]) -> None:
        self.errands.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failed.append(error)

    async def call(self, room_name: str, agent_name: str) -> None:
        """A caller asks for an agent, and looks at what it was told."""
        waits = self.is_limited(agent_name) and self.random.random() < 0.5
        await self._ask(room_name, agent_name, partial(Process.request, wait_s=QUEUE_S if waits else 0))

    async def resume(self, room_name: str, agent_name: str) -> None:
        """The human who had taken over wants the agent back."""
        key = (room_name, agent_name)
        with self._release(key):
            granted = await self._ask(room_name, agent_name, Process.resume)
        if granted and key in self.hold_wishes:
            self._fulfil_hold(key)

    async def hold(self, room_name: str, agent_name: str) -> None:
        """A human takes over: from now on no agent comes."""
        process = self._choose()
        key = (room_name, agent_name)
        if process is None:
            return
        self._forget(key)
        releases = self.releases[key]
        if key not in self.hold_wishes:
            self.hold_wishes[key] = len(self.wishes[key])
            self.wishes[key].append((self.clock.now(), None))
        try:
            await process.hold(room_name, agent_name)
        except ServiceError as error:
            self.journal.note(f"  not held: {error}")
            return
        except asyncio.CancelledError:
            if not process.dead:
                raise
            return
        self.journal.note(f"  held {key}")
        if self.releases[key] == releases and not self.releases_under_way[key]:
            self.held.add(key)

    @contextmanager
    def _release(self, key: Key) -> Iterator[None]:
        """Somebody asks for the end of a hold, with whatever success."""
        self.held.discard(key)
        self.releases[key] += 1
        self.releases_under_way[key] += 1
        try:
            yield
        finally:
            self.releases_under_way[key] -= 1

    def _fulfil_hold(self, key: Key) -> None:
        place = self.hold_wishes.pop(key)
        self.wishes[key][place] = (self.wishes[key][place][0], self.clock.now())

    async def _ask(
        self, room_name: str, agent_name: str, ask: Callable[[Process, str, str], asyncio.Task[AgentGrant]]
    ) -> bool:
        """Whether an agent was granted."""
        process = self._choose()
        key = (room_name, agent_name)
        epoch, disturbances = self.epochs[key], self.server.disturbances
        started_at = self.clock.now()
        if process is None:
            return False
        self.calls_under_way[key] += 1
        granted = None
        try:
            granted = await ask(process, room_name, agent_name)
            self.journal.note(f"  granted {granted.dispatch.dispatch_id} reused={granted.reused}")
        except ServiceError as error:
            self.journal.note(f"  not granted: {error}")
            if isinstance(error, AtCapacity):
                self._forget(key)
        except asyncio.CancelledError:
            if not process.dead:
                raise
        finally:
            self.calls_under_way[key] -= 1
            self.calls_over[key] += 1
        if granted is None:
            if self.wants[key] is Want.NO:
                self.wants[key] = Want.MAYBE
            return False
        if granted.is_on_hold:
            return False
        self.called_at[key] = max(self.called_at[key], started_at)
        is_certain = self.epochs[key] == epoch and not any(until is None for _, until in self.wishes[key])
        self.wants[key] = Want.YES if is_certain else Want.MAYBE
        if disturbances == self.server.disturbances:
            self._judge_grant(room_name, granted)
        return True

    async def end(self, room_name: str, agent_name: str) -> None:
        with self._release((room_name, agent_name)):
            await self._end(room_name, agent_name)

    async def _end(self, room_name: str, agent_name: str) -> None:
        process = self._choose()
        key = (room_name, agent_name)
        if process is None:
            return
        self.epochs[key] += 1
        wishes = self.wishes[key]
        wishes.append((self.clock.now(), None))
        place = len(wishes) - 1
        self.wants[key] = Want.MAYBE
        before = self.epochs[key] + 1, self.calls_over[key]
        try:
            await process.end(room_name, agent_name)
        except ServiceError:
            # The row may have been ended, and LiveKit be told later: the wish goes on.
            return
        except asyncio.CancelledError:
            if not process.dead:
                raise
            return
        wishes[place] = (wishes[place][0], self.clock.now())
        self.epochs[key] += 1
        if before == (self.epochs[key], self.calls_over[key]) and self.calls_under_way[key] == 0:
            self.wants[key] = Want.NO

    def drain(self, worker: FakeWorker) -> None:
        """A worker is emptied: another one takes its agents over, if there is one."""
        worker.draining = True
        others = (one for one in self.workers(worker.agent_name) if one.takes_jobs)
        deployment = next((one.deployment for one in others), None)
        for _, agent in self.server.agents_of(worker):
            query = "SELECT id FROM dispatches WHERE agent_identity = ? AND ended_at IS NULL"
            for row in self.database.rows(query, agent.identity):
                self.send(self._relieve(row["id"], deployment))

    async def _relieve(self, row_id: str, deployment: str | None) -> None:
        process = self._choose()
        if process is None:
            return
        try:
            relief = await process.relieve(row_id, deployment)
            self.journal.note(f"  relief of {row_id}: {relief}")
        except ServiceError as error:
            self.journal.note(f"  not relieved: {error}")
        except asyncio.CancelledError:
            if not process.dead:
                raise

    def change_pool(self, warm: int) -> None:
        self.warm = warm
        for process in self.up:
            process.service.policies.replace(self.config.policies)

    def reload(self, *, limits: bool, update: bool) -> None:
        """Every process reads a changed file."""
        self.limits_in_force = limits
        self.is_capped &= limits
        for process in self.up:
            process.service.policies.replace(self.config.policies)
            if update:
                self.send(self._update(process))

    async def _update(self, process: Process) -> None:
        self.terms = None
        self._updates_under_way += 1
        try:
            await process.begin(process.service.reloader.update_running())
        except asyncio.CancelledError:
            if not process.dead:
                raise
        finally:
            self._updates_under_way -= 1
            if not self._updates_under_way:
                self.terms = {}

    # What happens

    def somebody_joins(self, room_name: str, identity: str, *, is_phone: bool = False) -> None:
        room = self.server.rooms.get(room_name)
        if room and not room.people:
            for agent_name in AGENT_NAMES:
                key = (room_name, agent_name)
                made_at = self.server.by_our_clock(room.created_at)
                since = max(made_at, self.server.last_person_at.get(room.sid, 0), self.called_at[key])
                shortest_s = 0 if self.is_limited(agent_name) else TTL_S / 2
                if self.clock.now() - since > shortest_s * SECOND_US:
                    self._forget(key)
        self.server.join(room_name, identity, is_phone=is_phone)

    @property
    def holding_rooms(self) -> list[FakeRoom]:
        return [room for room in self.server.rooms.values() if is_holding_room(room.name)]

    @property
    def rooms_of_people(self) -> list[FakeRoom]:
        return [room for room in self.server.rooms.values() if not is_holding_room(room.name)]

    def meddle(self, held: FakeRoom, *, whole: bool) -> None:
        """Others delete a holding room, or its dispatch."""
        for agent in held.agents:
            if room := self.server.elsewhere.get((held.sid, agent.identity)):
                self._forget((room.name, agent.agent_name))
        if whole:
            self.server.delete_room(held.name)
        else:
            for dispatch_id in list(held.dispatches):
                self.server.delete_behind_our_back(held, dispatch_id)

    def tracked(self) -> list[Key]:
        """The rooms and agent names with a dispatch that has not ended."""
        query = "SELECT DISTINCT room_name, agent_name FROM dispatches WHERE ended_at IS NULL ORDER BY 1, 2"
        return [(row["room_name"], row["agent_name"]) for row in self.database.rows(query)]

    def workers(self, agent_name: str) -> list[FakeWorker]:
        """Those that run, or stand still."""
        workers = [worker for worker in self.server.workers if worker.agent_name == agent_name]
        return [worker for worker in workers if worker.process is not WorkerProcess.KILLED]

    def has_worker(self, agent_name: str) -> bool:
        return any(worker.takes_jobs for worker in self.workers(agent_name))

    def agents(self, room_name: str, agent_name: str) -> list[FakeAgent]:
        room = self.server.rooms.get(room_name)
        return [agent for agent in room.agents if agent.agent_name == agent_name] if room else []

    def agent_leaves(self, room_name: str, agent_name: str, kind: str) -> None:
        """It has `finished`, its worker stops (`shutdown`), it `failed`, or it goes without a word."""
        for agent in self.agents(room_name, agent_name)[:1]:
            if kind in ("finished", "shutdown"):
                agent.attributes["agent-lifecycle.leaving"] = kind
            if kind in ("finished", ""):
                self._forget((room_name, agent_name))
            reason = "CONNECTION_TIMEOUT" if kind == "failed" else "CLIENT_INITIATED"
            self.server.leave(room_name, agent.identity, reason)

    def others_dispatch(self, room_name: str, agent_name: str, count: int) -> None:
        for _ in range(count):
            self.server.create_dispatch(room_name, agent_name)
        if self.wants[room_name, agent_name] is Want.NO:
            self.wants[room_name, agent_name] = Want.MAYBE
        self.epochs[room_name, agent_name] += 1

    def others_delete(self, room_name: str, agent_name: str) -> None:
        room = self.server.rooms.get(room_name)
        named = [one for one in room.dispatches.values() if one.agent_name == agent_name] if room else []
        for dispatch in named[:1]:
            assert room
            self.server.delete_behind_our_back(room, dispatch.id)
            self._forget((room_name, agent_name))

    def _forget(self, key: Key) -> None:
        """Nobody can tell any more whether an agent is wanted there."""
        self.epochs[key] += 1
        if self.wants[key] is Want.YES:
            self.wants[key] = Want.MAYBE

    def mend_database(self) -> None:
        self.database.down = False
        self.database.broken_commits.clear()

    def database_failed_lately(self, within_s: float) -> bool:
        count, at = self._failures_seen
        if count != self.database.failures:
            self._failures_seen = (self.database.failures, self.clock.now())
            return True
        return count > 0 and self.clock.now() - at <= within_s * SECOND_US

    def livekit_failed_lately(self, within_s: float) -> bool:
        met = [process.weather.met_at for process in self.up]
        return any(at is not None and self.clock.now() - at <= within_s * SECOND_US for at in met)

    def go_on(self, rounds: int | None) -> None:
        """Let everybody go on for some rounds of the loop; None: until nothing happens without time."""

        async def run() -> None:
            for _ in range(rounds or 0):
                await asyncio.sleep(0)

        self.loop.finish(self.loop.quiet() if rounds is None else run())

    def calm(self, *, lost: bool, worker: bool, long: bool) -> dict[str, bool]:
        """Everything is well from now on, and enough time passes; returns which agents have a worker."""
        self.mend_database()
        for stopped in self.workers(AGENT) + self.workers(OTHER_AGENT):
            if stopped.process is WorkerProcess.FROZEN:
                self.server.kill(stopped)
        for agent_name in AGENT_NAMES if worker else ():
            if not self.has_worker(agent_name):
                self.server.start_worker(agent_name, helper=self.random.random() < 0.5)
        letters, self.post.held, self.post.service = self.post.held, [], Service.PROMPT
        for process in self.processes:
            process.weather.turn(None)
            process.seams_left = None
        self.loop.finish(self.fill_up())
        for letter in letters:
            if lost:
                self.post.lost.append(letter)
            else:
                self.send(self.post.deliver_or_hold(letter))
        self.clock.advance(LONG_CALM_S if long else CALM_S)
        self.go_on(None)
        assert not self.errands, f"these have never been answered: {self.errands}"
        return {agent_name: self.has_worker(agent_name) for agent_name in AGENT_NAMES}

    # What is judged at the moment it happens

    def _judge_grant(self, room_name: str, granted: AgentGrant) -> None:
        """Promise 5: who is told of an agent has it, in the room or on its way."""
        row = granted.dispatch
        room = self.server.rooms.get(room_name)
        assert room, f"an agent was granted in a room that does not exist: {row}"
        assert row.state in (State.STARTING, State.ACTIVE, State.IDLE), f"granted in vain: {row}"
        job_room = self.server.rooms.get(row.job_room_name)
        dispatch = job_room.dispatches.get(row.dispatch_id or "") if job_room else None
        assert dispatch, f"the dispatch that was granted is not in LiveKit: {row}"
        agent = room.participants.get(dispatch.job or "")
        if granted.reused and row.state is not State.STARTING:
            assert isinstance(agent, FakeAgent), f"the agent that was reused is not in the room: {row}"
            assert agent.reacts, f"the agent that was reused is frozen or dead: {row}"
            if agent.worker.helper or self.post.is_clean:
                assert agent.session_open, f"the agent that was reused is deaf: {row}"

    def _judge_creation(self, room_name: str, agent_name: str) -> None:
        """During a hold nothing brings the agent back; another replica may have been about to."""
        is_held = (room_name, agent_name) in self.held
        assert not is_held or self.replicas > 1, f"on hold, and dispatched: {agent_name} in {room_name}"

    def _judge_claim(self, holding_room: str, room_name: str, claim: str) -> None:
        """An agent of the pool comes into a room for a dispatch that has claimed it, and for no other."""
        query = "SELECT * FROM warm_agents WHERE claimed_by = ?"
        claimed = [
            row for row in self.database.rows(query, claim) if HOLDING_PREFIX + row["id"] == holding_room
        ]
        assert claimed, f"not claimed: {holding_room} for {room_name}"
        rows = self.database.rows("SELECT room_name FROM dispatches WHERE id = ?", claim)
        assert [row["room_name"] for row in rows] == [room_name], f"another room: {room_name}: {rows}"

    def _judge_removal(self, removal: Removal) -> None:
        """Promise 2: one that answers is taken out at somebody's wish, or after its TTL with nobody in."""
        room, agent = removal.room, removal.agent
        if agent is None or not self._is_good(agent) or self.server.was_unwell_lately(agent, _FRESH_S):
            return
        if self._is_wished_away(removal) or self._has_better(removal):
            return
        if not agent.worker.helper and self._may_be_deaf(room, agent):
            return
        if agent.worker.draining and self._was_drained_alone(agent):
            return
        if self.is_limited(removal.agent_name) and self._had_its_session(agent):
            self._forget((room.name, removal.agent_name))
            return
        asked_at = max((p.livekit.empty_at.get(room.name, 0) for p in self.processes), default=0)
        about = f"{removal.dispatch} / {agent} at {self.clock.now()}; asked at {asked_at}"
        for person in room.people:
            joined_at = self.server.by_our_clock(person.joined_at)
            assert joined_at >= asked_at // 1_000 * 1_000, f"taken from people: {about}; {person}"
        assert self.clock.now() - asked_at <= _FRESH_S * SECOND_US, f"LiveKit was not asked: {about}"
        since = max(self._last_leave(room.sid), self.called_at[room.name, removal.agent_name])
        assert self.clock.now() >= since + self._ttl_us(removal), (
            f"before its TTL, which ran from {since}: {about}"
        )

    def _ttl_us(self, removal: Removal) -> int:
        """The shortest that may run, for those who were in since the dispatch, as far as they were seen."""
        if not self.is_limited(removal.agent_name):
            return TTL_S * SECOND_US
        made_at = self.server.by_our_clock(removal.dispatch.created_at) if removal.dispatch else 0
        query = (
            "SELECT is_phone FROM participants WHERE room_sid = ? AND kind = 'person'"
            " AND (left_at IS NULL OR left_at >= ?)"
        )
        met = [bool(row["is_phone"]) for row in self.database.rows(query, removal.room.sid, made_at)]
        if not met:
            return UNVISITED_TTL_S * SECOND_US
        return (PHONE_TTL_S if all(met) else TTL_S) * SECOND_US

    def _had_its_session(self, agent: FakeAgent) -> bool:
        """Whether it is ended for the length of its session, which began with the first agent of its row."""
        query = (
            "WITH RECURSIVE line(id, succeeds, agent_joined_at) AS ("
            " SELECT id, succeeds, agent_joined_at FROM dispatches"
            " WHERE agent_identity = ? AND end_reason = 'max_session'"
            " UNION ALL SELECT d.id, d.succeeds, d.agent_joined_at"
            " FROM dispatches AS d JOIN line ON d.id = line.succeeds)"
            " SELECT min(agent_joined_at) AS at FROM line"
        )
        began_at = self.database.rows(query, agent.identity)[0]["at"]
        return began_at is not None and self.clock.now() >= began_at + MAX_SESSION_S * SECOND_US

    def _was_drained_alone(self, agent: FakeAgent) -> bool:
        """Whether its worker is emptied, and nobody was with it when that was decided."""
        query = (
            "SELECT h.people FROM history AS h JOIN dispatches AS d ON d.id = h.dispatch_row_id"
            " WHERE d.agent_identity = ? AND h.event = 'drained' AND h.from_state = 'idle'"
        )
        return any(row["people"] == 0 for row in self.database.rows(query, agent.identity))

    def _is_wished_away(self, removal: Removal) -> bool:
        made_at = self.server.by_our_clock(removal.dispatch.created_at) if removal.dispatch else 0
        wishes = self.wishes[removal.room.name, removal.agent_name]
        return any(until is None or until >= made_at for _, until in wishes)

    def _has_better(self, removal: Removal) -> bool:
        others = [
            other
            for other in removal.room.agents
            if other is not removal.agent and other.agent_name == removal.agent_name
        ]
        return any(self._is_good(other) and not self._is_deleted(other) for other in others)

    def _is_deleted(self, agent: FakeAgent) -> bool:
        dispatch = self.server.dispatch_of.get(agent.identity)
        return dispatch is None or dispatch.id in self.server.deleted

    def _may_be_deaf(self, room: FakeRoom, agent: FakeAgent) -> bool:
        """A plain agent cannot be asked: it may be, when somebody left, or where nobody is in.

        When an agent of others joined, the service knows by LiveKit's clock only, to a second.
        """
        tracked = self.database.rows("SELECT id FROM dispatches WHERE agent_identity = ?", agent.identity)
        joined_at = self.server.by_our_clock(agent.joined_at) - (0 if tracked else SECOND_US)
        left_at = max(self.server.last_person_at.get(room.sid, 0), self._last_leave(room.sid))
        return not room.people or left_at >= joined_at

    @staticmethod
    def _is_good(agent: FakeAgent) -> bool:
        return agent.reacts and agent.session_open

    def _last_leave(self, room_sid: str) -> int:
        query = "SELECT max(left_at) AS at FROM participants WHERE room_sid = ? AND kind = 'person'"
        return self.database.rows(query, room_sid)[0]["at"] or 0

    def is_deaf_unseen(self, agent: FakeAgent) -> bool:
        """Whether who closed its session was never seen by the service, neither coming nor going."""
        if agent.worker.helper:
            return False
        closer = self.server.closed_by.get(agent.identity, "")
        return not self.database.rows("SELECT sid FROM participants WHERE sid = ?", closer)

    def _on_delivered(self, event: RoomEvent, outcome: Outcome) -> None:
        """Promise 6: what happened in an old room is nothing to the new one."""
        known = self.database.rows("SELECT sid, created_at FROM rooms WHERE name = ?", event.room_name)
        if known and known[0]["sid"] != event.room.sid and known[0]["created_at"] > event.room.created_at:
            touched = [t for t in outcome.transitions if t.after.room_sid != event.room.sid]
            assert not touched, f"an old room's event touched the new room: {event}: {touched}"

    def _on_room_closed(self, room_name: str) -> None:
        for agent_name in AGENT_NAMES:
            self.epochs[room_name, agent_name] += 1
            self.wants[room_name, agent_name] = Want.NO
            self.held.discard((room_name, agent_name))
            self.releases[room_name, agent_name] += 1
            if (room_name, agent_name) in self.hold_wishes:
                self._fulfil_hold((room_name, agent_name))
