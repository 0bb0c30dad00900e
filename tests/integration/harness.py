"""The real app on a real socket and a real database, with LiveKit and time in the test's hands."""

import asyncio
import base64
import datetime as dt
import hashlib
import io
import json
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from livekit import api

from app.clock import Clock
from app.config.settings import Config, Keypair
from app.logs.counts import LogCounts
from app.service import Service
from app.tracing.interface import Tracing
from app.web.app import create_app
from app.web.keys import SERVICE
from app.web.listener import Listener, listen
from fakes.clock import FakeClock
from fakes.databases import Database
from fakes.livekit import FakeLiveKit
from fakes.post import Post
from fakes.rooms import FakeAgent
from fakes.store import DatabaseFaults
from fakes.webhooks import SignedWebhook

KEYPAIR = Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters")
SECOND_KEYPAIR = Keypair(key="nextkey", secret="next-secret-of-at-least-32-characters")
API_KEY = "an-api-key-nobody-guesses"
AGENT, OTHER_AGENT = "agent", "other-agent"

#: Which databases a test runs on; see the fixture `database`.
ON_BOTH = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize("database", ["postgres"], indirect=True)

#: Runs a test also with a LiveKit whose clock is an hour ahead of ours, or behind.
CLOCKS_APART = pytest.mark.parametrize("livekit_ahead_s", [0, 3_600, -3_600])

#: Nothing here takes this long; whoever waits for it fails instead of hanging.
BOUND_S = 60.0
#: For requests under way at a stop.
_GIVE_UP_AFTER_S = 0.5
#: Tasks of the app that end by themselves, once what they are about is done.
_ERRANDS = frozenset(
    {"effects", "deadline", "inspection", "dispatch request", "late worker", "drains", "worker reports"}
)

WEBHOOK = "/api/livekit/webhook"
DISPATCH = "/api/livekit/dispatch-agent"
STATUS = "/api/livekit/agent-status"
TOKEN = "/api/livekit/token"
AGENTS = "/api/livekit/agents"
USAGE = "/api/livekit/usage"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - what it is about has no event
            await asyncio.sleep(0.005)


def signing_with(keypair: Keypair) -> dict[str, Any]:
    """The settings of a service that signs with this key."""
    return {"livekit_api_key": keypair.key, "livekit_api_secret": keypair.secret}


def member_token(
    room: str,
    identity: str = "alice",
    *,
    keypair: Keypair = KEYPAIR,
    valid_for: dt.timedelta = dt.timedelta(hours=1),
    join: bool = True,
) -> str:
    """A token with which somebody joins `room`."""
    return (
        api.AccessToken(keypair.key, keypair.secret)
        .with_identity(identity)
        .with_ttl(valid_for)
        .with_grants(api.VideoGrants(room_join=join, room=room))
        .to_jwt()
    )


def worker_token(body: bytes, keypair: Keypair = KEYPAIR) -> str:
    """A token with which a worker signs a body."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    grants = api.VideoGrants(agent=True)
    return api.AccessToken(keypair.key, keypair.secret).with_grants(grants).with_sha256(digest).to_jwt()


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        return str(self.body.get("code"))


@dataclass(kw_only=True)
class World:
    """What outlives the app: LiveKit, the database, time, and webhooks on their way."""

    clock: FakeClock
    livekit: FakeLiveKit
    post: Post
    database: Database
    database_faults: DatabaseFaults = field(default_factory=DatabaseFaults)

    @property
    def config(self) -> Config:
        return Config(
            livekit_url="ws://livekit.test",
            livekit_api_key=KEYPAIR.key,
            livekit_api_secret=KEYPAIR.secret,
            webhook_keys=(SECOND_KEYPAIR,),
            agent_names=(AGENT, OTHER_AGENT),
            database_url=self.database.patient_url,
            cleanup_interval_ms=60_000,
            api_keys=(API_KEY,),
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table as it stands in the database, in the order of its primary key."""
        return self.database.query(f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608 - our own names

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that is stored but for what is noted of each webhook as such."""
        return {table: self.rows(table) for table in ("dispatches", "participants", "rooms", "history")}

    def agents(self, room: str) -> list[FakeAgent]:
        found = self.livekit.server.rooms.get(room)
        return found.agents if found else []

    def dispatches(self, room: str) -> list[str]:
        """The ids of the dispatches that LiveKit has."""
        found = self.livekit.server.rooms.get(room)
        return list(found.dispatches) if found else []


class App:
    """One run of the service; `async with` stops it."""

    def __init__(
        self,
        world: World,
        config: Config,
        clock: Clock | None = None,
        log_counts: LogCounts | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.world = world
        self._web = create_app(
            config,
            clock=clock or world.clock,
            livekit=world.livekit,
            store_type=world.database_faults.store_type(),
            log_counts=log_counts,
            tracing=tracing,
        )
        # As in app.__main__, but for the port.
        self.runner = web.AppRunner(
            self._web, access_log=None, handler_cancellation=False, shutdown_timeout=_GIVE_UP_AFTER_S * 2
        )
        self._listener: Listener | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stopped = False

    @property
    def service(self) -> Service:
        return self._web[SERVICE]

    async def start(self) -> Self:
        await self.runner.setup()
        self._listener = await listen(self.runner, "127.0.0.1", 0)
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{self.port}")
        return self

    @property
    def port(self) -> int:
        assert self._listener is not None
        return self._listener.port

    async def start_ready(self) -> Self:
        await self.start()
        greeting = [task for task in asyncio.all_tasks() if task.get_name() == "first reconcile"]
        async with asyncio.timeout(BOUND_S):
            await asyncio.gather(*greeting)
        await self.settle()
        return self

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._listener:
            self._listener.close(give_up_after_s=_GIVE_UP_AFTER_S)
        await self.runner.cleanup()
        if self._session:
            await self._session.close()

    # Requests

    async def call(
        self,
        method: str,
        path: str,
        *,
        auth: str | None = API_KEY,
        json_body: Any = None,
        data: bytes | AsyncIterable[bytes] | None = None,
        params: Mapping[str, str] | list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        assert self._session is not None
        sent = dict(headers or {})
        if auth is not None:
            sent["Authorization"] = f"Bearer {auth}"
        raw = json.dumps(json_body).encode() if json_body is not None else data
        # aiohttp warns of large bodies in any other form.
        body = raw if isinstance(raw, AsyncIterable) else io.BytesIO(raw or b"")
        async with self._session.request(method, path, data=body, params=params, headers=sent) as response:
            text = await response.read()
            parsed = json.loads(text) if text else {}
            return Answer(status=response.status, body=parsed, headers=response.headers.copy())

    async def scrape(self, *, auth: str | None = None, accept: str = "") -> tuple[int, str, str]:
        """What `/metrics` answers: status, content type, text."""
        assert self._session is not None
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {auth}"} if auth else {})
        async with self._session.get("/metrics", headers=headers) as response:
            return response.status, response.headers["Content-Type"], await response.text()

    async def usage(self, **params: str) -> dict[str, Any]:
        answer = await self.call("GET", USAGE, params=params)
        assert answer.status == 200, answer
        return answer.body

    async def usage_text(self, *, accept: str = "*/*", **params: str) -> tuple[str, str]:
        """What the usage endpoint answers as it is: content type and text."""
        assert self._session is not None
        headers = {"Accept": accept, "Authorization": f"Bearer {API_KEY}"}
        async with self._session.get(USAGE, params=params, headers=headers) as response:
            return response.headers["Content-Type"], await response.text()

    async def dispatch(self, room: str = "room", **fields: Any) -> Answer:
        return await self.call("POST", DISPATCH, json_body={"roomName": room, **fields})

    async def status(self, room: str = "room", **params: str) -> dict[str, Any]:
        answer = await self.call("GET", STATUS, params={"roomName": room, **params})
        assert answer.status == 200, answer
        return answer.body

    async def end(self, room: str = "room", **params: str) -> Answer:
        return await self.call("DELETE", DISPATCH, params={"roomName": room, **params})

    async def state(self, room: str = "room") -> str:
        return str((await self.status(room))["state"])

    async def listed(self, **params: str) -> list[dict[str, Any]]:
        answer = await self.call("GET", AGENTS, params=params)
        assert answer.status == 200, answer
        agents: list[dict[str, Any]] = answer.body["agents"]
        return agents

    async def deliver(self, webhook: SignedWebhook) -> Answer:
        """Post a webhook as LiveKit does: the token bare, without a scheme."""
        headers = {"Authorization": webhook.authorization, "Content-Type": "application/webhook+json"}
        return await self.call("POST", WEBHOOK, data=webhook.body, headers=headers, auth=None)

    async def call_as_worker(
        self, path: str, content: Mapping[str, Any], *, keypair: Keypair = KEYPAIR
    ) -> Answer:
        """Call an endpoint for workers, with the body signed as the helper signs it."""
        body = json.dumps(content, ensure_ascii=False).encode()
        return await self.call(
            "POST", f"/api/livekit/worker/{path}", auth=worker_token(body, keypair), data=body
        )

    # Time and quiet

    async def settle(self) -> None:
        """Deliver what LiveKit has sent, and return when everything that it entails is done."""
        async with asyncio.timeout(BOUND_S):
            while True:
                for webhook in self.world.post.take():
                    answer = await self.deliver(webhook)
                    assert answer.status == 200, answer
                # A timer that is due fires in the loop's next round, and its task starts after.
                for _ in range(3):
                    await asyncio.sleep(0)
                errands = [task for task in asyncio.all_tasks() if task.get_name() in _ERRANDS]
                if errands:
                    await asyncio.wait(errands)
                elif not self.world.post.waiting:
                    return

    async def advance(self, seconds: float) -> None:
        """Let time pass, as far as LiveKit and its webhooks are concerned."""
        self.world.clock.advance(seconds)
        await self.settle()

    async def sweep(self) -> None:
        """What the service does in each of its rounds, deadlines that have passed included."""
        await self.service.sweeper.sweep()
        await self.settle()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody: LiveKit, and the service's deadlines."""
        await self.advance(seconds)
        await self.sweep()
