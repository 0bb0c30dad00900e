"""Reconcile on a LiveKit with ten thousand rooms: the number of calls, and how many at once."""

import asyncio
from dataclasses import dataclass

from app.control.drift import ROLLING_ROUNDS, YOUNG_US
from fakes.clock import SECOND_US
from fakes.server import FakeServer
from integration.harness import App, World

ROOMS = 10_000
#: A full inspection: find the room, list participants, list dispatches.
INSPECTION_CALLS = 3
#: Rooms at once, each with two calls at most.
AT_ONCE = 16 * 2


@dataclass
class Traffic:
    """Delays every call, and counts how many run at once."""

    now: int = 0
    most: int = 0

    async def before(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)

    async def after(self) -> None:
        self.now -= 1


async def test_a_round_over_ten_thousand_rooms_inspects_a_tenth_of_them(
    app: App, world: World, server: FakeServer
) -> None:
    """The rooms have no agents, and match the tables."""
    world.post.lossy = True
    rooms = [server.open_room(f"room-{number}", 3_600, 3_600) for number in range(ROOMS)]
    known = ", ".join(f"('{room.name}', '{room.sid}', {room.created_at}, 1, 0)" for room in rooms)
    columns = "(name, sid, created_at, generation, people)"
    world.database.execute(f"INSERT INTO rooms {columns} VALUES {known}")  # noqa: S608 - our own names
    world.clock.advance(YOUNG_US / SECOND_US + 1)
    traffic = Traffic()
    world.livekit.faults.everywhere(traffic)
    world.livekit.calls.clear()

    await app.service.reconciler.run()

    calls = len(world.livekit.calls)
    inspected = world.livekit.count("find_room")
    assert world.livekit.count("list_rooms") == 1
    assert calls == 1 + INSPECTION_CALLS * inspected
    # The checksums of the names spread them, not quite evenly.
    assert ROOMS / ROLLING_ROUNDS * 0.8 < inspected < ROOMS / ROLLING_ROUNDS * 1.2
    assert 1 < traffic.most <= AT_ONCE
