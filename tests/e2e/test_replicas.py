"""Two services as processes on one PostgreSQL, with the real LiveKit between them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from devstack.callers import Caller
from devstack.fixture_types import JoinRoom, StartService
from devstack.relay import WebhookRelay
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker
from fakes.databases import PostgresServer

pytestmark = pytest.mark.real


@pytest.fixture
async def replicas(
    postgres: PostgresServer, start_service: StartService, relay: WebhookRelay, reusable_worker: Worker
) -> AsyncIterator[tuple[Service, Service]]:
    """Two of them; LiveKit's webhooks reach only the first."""
    database = postgres.create()
    env = {"DATABASE_URL": database.url, "AGENT_TTL_SECONDS": "5", "CLEANUP_INTERVAL_MS": "1000"}
    first = await start_service(agent_name=reusable_worker.agent_name, ready=True, **env)
    second = await start_service(agent_name=reusable_worker.agent_name, ready=True, **env)
    # Its fixture takes it out of the relay itself, and minds when it is not there.
    relay.targets[:] = [first.webhook_url, *(url for url in relay.targets if url != first.webhook_url)][:1]
    yield first, second
    relay.targets[:] = [first.webhook_url, second.webhook_url]
    await asyncio.gather(asyncio.to_thread(first.stop), asyncio.to_thread(second.stop))
    database.close()


async def test_two_replicas_behave_as_one(
    replicas: tuple[Service, Service], join_room: JoinRoom, truth: RoomTruth
) -> None:
    """Both are asked, one hears the webhooks: one agent, and its TTL fires once."""
    async with Caller(replicas[0].base_url) as first, Caller(replicas[1].base_url) as second:
        answers = await asyncio.gather(
            *(caller.request_agent(truth.name) for caller in (first, second) for _ in range(10))
        )
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body["dispatchId"] for answer in answers}) == 1
        assert [answer.body["reused"] for answer in answers].count(False) == 1
        person = await join_room(truth.name)
        await person.wait_for_agents(1)
        assert await person.ask("hello") == "turn 1: hello"

        async def seen_by_both() -> bool:
            states = [(await caller.status(truth.name))["state"] for caller in (first, second)]
            return states == ["active", "active"]

        await eventually(seen_by_both, "both say active")
        await person.leave()
        await eventually(truth.has_none, "the TTL has ended it")

        async def recorded() -> bool:
            return bool((await second.status(truth.name))["state"] == "none")

        await eventually(recorded, "the end is recorded")
        dispatch_id = answers[0].body["dispatchId"]
        history = (await second.call("GET", f"/api/livekit/agents/{dispatch_id}")).body["history"]
        assert [line["event"] for line in history].count("ttl_expired") == 1
        assert len([a for a in await second.agents(state="ended") if a["roomName"] == truth.name]) == 1


async def test_what_one_leaves_unfinished_when_it_is_killed_the_other_finishes(
    replicas: tuple[Service, Service], truth: RoomTruth
) -> None:
    first, second = replicas
    async with Caller(first.base_url) as caller:
        assert (await caller.request_agent(truth.name)).status == 200
        await eventually(truth.has_one_agent, "the agent is in")
    await asyncio.to_thread(first.kill)

    await eventually(truth.has_none, "the other ends the agent at its TTL", timeout_s=40)

    async with Caller(second.base_url) as caller:

        async def recorded() -> bool:
            ended = [a for a in await caller.agents(state="ended") if a["roomName"] == truth.name]
            return [agent["endReason"] for agent in ended] == ["expired"]

        await eventually(recorded, "the end is recorded")
