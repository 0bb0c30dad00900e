"""A service with a pool of warm agents, whose rounds come when a test says so."""

from collections import Counter
from typing import Any

from app.config.agents import AgentPolicy
from fakes.rooms import FakeAgent, FakeRoom
from integration.conftest import StartApp
from integration.harness import AGENT, OTHER_AGENT, App, World

JOIN_TIMEOUT_S = 15


def policy(warm: int = 2, **changes: Any) -> dict[str, AgentPolicy]:
    return {
        AGENT: AgentPolicy(**({"ttl_s": 300, "join_timeout_s": JOIN_TIMEOUT_S, "warm": warm} | changes)),
        OTHER_AGENT: AgentPolicy(ttl_s=300, join_timeout_s=JOIN_TIMEOUT_S),
    }


async def start(start_app: StartApp, **settings: Any) -> App:
    return await start_app(**({"agents": policy()} | settings))


async def rounds(app: App, count: int = 1, *, every_s: float = 1.0) -> None:
    for _ in range(count):
        await app.service.warm_pool.run()
        await app.advance(every_s)


def holding_rooms(world: World) -> list[FakeRoom]:
    rooms = world.livekit.server.rooms.values()
    return [room for room in rooms if room.name.startswith("agent-warm.")]


def waiting(world: World) -> list[FakeAgent]:
    return [agent for room in holding_rooms(world) for agent in room.agents if agent.waits]


def states(world: World) -> Counter[str]:
    return Counter(row["state"] for row in world.rows("warm_agents"))


def ends(world: World) -> Counter[str]:
    return Counter(row["end_reason"] for row in world.rows("warm_agents") if row["state"] == "ended")
