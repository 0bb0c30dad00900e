"""Where the contract is played: the same scenes with the fake LiveKit and with the real one."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from livekit import api

from app.config.settings import Keypair
from app.livekit.interface import LiveKit
from app.state.presence import Participant, ParticipantKind
from contract.warm_agent import WarmAgent, agent_token
from devstack.chaos.fork_server import ForkServer
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, avatar_token, member_token
from devstack.relay import WebhookRelay
from devstack.truth import eventually
from devstack.workers import DEPLOYMENT, STARTS_WITH, TYPE, WAITS_S, Worker, WorkerKind
from fakes.clock import FakeClock
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.rooms import FakeAgent, FakeWorker

Condition = Callable[[], Awaitable[bool]]

#: LiveKit notices a dead agent after 21 s.
_BOUND_S = 40.0
#: Workers that are up from the start; nobody answers to any other name.
HELPER_AGENT, PLAIN_AGENT = "reusable-agent", "plain-agent"
WARM_AGENT = "warm-agent"


class Stage(Protocol):
    """A LiveKit with people and workers, and a room name of the test's own."""

    livekit: LiveKit
    room: str
    #: What LiveKit takes tokens of.
    keypair: Keypair

    async def join(self, identity: str = "alice") -> None: ...

    async def leave(self, identity: str = "alice") -> None:
        """As a closed tab leaves."""

    async def delete_room(self) -> None: ...

    async def start_worker(self, agent_name: str) -> None:
        """One with the helper, of this test's own."""

    async def start_worker_of(self, agent_name: str, deployment: str) -> None:
        """A plain one with that LIVEKIT_AGENT_DEPLOYMENT."""

    async def start_slow_worker(self, agent_name: str, loads_s: float) -> None:
        """A plain one whose agents load so long before they connect."""

    async def start_worker_with_slow_sessions(self, agent_name: str) -> None:
        """One with the helper whose sessions start when the test says so."""

    async def let_sessions_start(self) -> None: ...

    async def start_publisher_worker(self, agent_name: str) -> None:
        """A plain one whose dispatches have a job for each publisher."""

    async def join_avatar(self, agent_identity: str) -> None: ...

    async def join_waiting(self, identity: str) -> None:
        """A warm agent that waits for its claim."""

    async def kill_worker(self) -> None:
        """The one of this test's own, with SIGKILL."""

    async def freeze_worker(self) -> None:
        """With SIGSTOP."""

    async def until(self, condition: Condition, what: str) -> None:
        """Let time pass until the condition holds; fails when it does not in bounded time."""

    def webhooks(self) -> list[dict[str, Any]]:
        """The bodies of the room's webhooks so far, in the order in which they were sent."""


async def agents(stage: Stage) -> list[Participant]:
    found = await stage.livekit.list_participants(stage.room)
    return [one for one in found if one.kind is ParticipantKind.AGENT]


async def identity_of_agent(stage: Stage) -> str:
    """The identity of the one agent, once it is in and can be asked."""

    async def is_in() -> bool:
        return len(await agents(stage)) == 1

    await stage.until(is_in, "the agent is in")
    (agent,) = await agents(stage)
    assert agent.identity is not None
    return agent.identity


@dataclass(kw_only=True)
class FakeStage:
    livekit: FakeLiveKit
    room: str
    keypair: Keypair
    clock: FakeClock
    post: Post
    own_worker: FakeWorker | None = None

    async def join(self, identity: str = "alice") -> None:
        self.livekit.server.join(self.room, identity)

    async def leave(self, identity: str = "alice") -> None:
        self.livekit.server.leave(self.room, identity)

    async def delete_room(self) -> None:
        self.livekit.server.delete_room(self.room)

    async def start_worker(self, agent_name: str) -> None:
        self.own_worker = self.livekit.server.start_worker(agent_name)

    async def start_worker_of(self, agent_name: str, deployment: str) -> None:
        self.livekit.server.start_worker(agent_name, helper=False, deployment=deployment)

    async def start_slow_worker(self, agent_name: str, loads_s: float) -> None:
        self.livekit.server.start_worker(agent_name, helper=False, joins_after_s=loads_s)

    async def start_worker_with_slow_sessions(self, agent_name: str) -> None:
        self.own_worker = self.livekit.server.start_worker(agent_name, starts_after_s=_BOUND_S)

    async def let_sessions_start(self) -> None:
        assert self.own_worker
        for _, agent in self.livekit.server.agents_of(self.own_worker):
            agent.has_started = True

    async def start_publisher_worker(self, agent_name: str) -> None:
        self.livekit.server.start_worker(agent_name, helper=False, for_publishers=True)

    async def join_avatar(self, agent_identity: str) -> None:
        agent = self.livekit.server.rooms[self.room].participants[agent_identity]
        assert isinstance(agent, FakeAgent)
        self.livekit.server.join_avatar(self.room, agent)

    async def join_waiting(self, identity: str) -> None:
        server = self.livekit.server
        server.join_waiting(self.room, server.start_worker(WARM_AGENT), identity)

    async def kill_worker(self) -> None:
        assert self.own_worker
        self.livekit.server.kill(self.own_worker)

    async def freeze_worker(self) -> None:
        assert self.own_worker
        self.livekit.server.freeze(self.own_worker)

    async def until(self, condition: Condition, what: str) -> None:
        for _ in range(round(_BOUND_S / 0.05)):
            if await condition():
                return
            self.clock.advance(0.05)
        raise TimeoutError(what)

    def webhooks(self) -> list[dict[str, Any]]:
        return [json.loads(webhook.body) for webhook in self.post.waiting if webhook.room_name == self.room]


@dataclass(kw_only=True)
class RealStage:
    livekit: LiveKit
    room: str
    keypair: Keypair
    server: LiveKitServer
    relay: WebhookRelay
    api: api.LiveKitAPI
    folder: Path
    fork_server: ForkServer
    people: dict[str, list[Person]] = field(default_factory=dict)
    own_worker: Worker | None = None
    warm_agent: WarmAgent | None = None

    async def join(self, identity: str = "alice") -> None:
        person = Person()
        self.people.setdefault(identity, []).append(person)
        await person.join(self.server.url, member_token(self.server, self.room, identity))

    async def leave(self, identity: str = "alice") -> None:
        await self.people[identity].pop().leave()

    async def delete_room(self) -> None:
        await self.api.room.delete_room(api.DeleteRoomRequest(room=self.room))

    async def start_worker(self, agent_name: str) -> None:
        await self._start_worker(agent_name, WorkerKind.REUSABLE)

    async def start_worker_of(self, agent_name: str, deployment: str) -> None:
        await self._start_worker(agent_name, WorkerKind.TOLD, {DEPLOYMENT: deployment})

    async def start_slow_worker(self, agent_name: str, loads_s: float) -> None:
        await self._start_worker(agent_name, WorkerKind.TOLD, {WAITS_S: str(loads_s)})

    async def start_worker_with_slow_sessions(self, agent_name: str) -> None:
        await self._start_worker(agent_name, WorkerKind.OBEDIENT, {STARTS_WITH: str(self._start_file)})

    async def let_sessions_start(self) -> None:
        self._start_file.touch()

    @property
    def _start_file(self) -> Path:
        return self.folder / f"{self.room}-starts"

    async def start_publisher_worker(self, agent_name: str) -> None:
        await self._start_worker(agent_name, WorkerKind.TOLD, {TYPE: "publisher"})

    async def _start_worker(
        self, agent_name: str, kind: WorkerKind, env: Mapping[str, str] | None = None
    ) -> None:
        self.own_worker = Worker(
            self.server,
            self.folder,
            agent_name=agent_name,
            kind=kind,
            env=env,
            spawn=self.fork_server.spawn,
        )
        await asyncio.to_thread(self.own_worker.start)

    async def join_avatar(self, agent_identity: str) -> None:
        avatar = Person()
        self.people.setdefault("an avatar", []).append(avatar)
        token = avatar_token(self.server.api_key, self.server.api_secret, self.room, agent_identity)
        await avatar.join(self.server.url, token, microphone=False)

    async def join_waiting(self, identity: str) -> None:
        token = agent_token(self.server, self.room, identity)
        self.warm_agent = await WarmAgent(self.server.url).join(token)

    async def kill_worker(self) -> None:
        assert self.own_worker
        self.own_worker.kill()

    async def freeze_worker(self) -> None:
        assert self.own_worker
        self.own_worker.freeze()

    async def until(self, condition: Condition, what: str) -> None:
        await eventually(condition, what, timeout_s=_BOUND_S)

    def webhooks(self) -> list[dict[str, Any]]:
        return [seen.body for seen in self.relay.events(self.room)]

    async def close(self) -> None:
        for people in self.people.values():
            await asyncio.gather(*(person.leave() for person in people))
        if self.warm_agent:
            await self.warm_agent.leave()
        if self.own_worker:
            await asyncio.to_thread(self.own_worker.stop)
        if await self.livekit.find_room(self.room):
            await self.delete_room()


async def jobs_shown(stage: Stage, dispatch_id: str) -> None:
    async def are_shown() -> bool:
        listed = await stage.livekit.list_dispatches(stage.room)
        return any(one.id == dispatch_id and one.agent_identities for one in listed)

    await stage.until(are_shown, "the dispatch shows its job")
