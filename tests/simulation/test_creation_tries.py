"""How often a creation is tried, and how long it waits in between: on simulated time, to the second."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.control.requests import AgentRequest
from app.errors import LiveKitUnavailable
from fakes.clock import SECOND_US
from fakes.faults import UNAVAILABLE
from integration.harness import AGENT
from simulation.database import write_template
from simulation.loop import SimulatedClock
from simulation.world import Setting, World


@dataclass
class Unwell:
    """LiveKit cannot be asked; when it was."""

    clock: SimulatedClock
    at: list[int] = field(default_factory=list)

    async def before(self) -> None:
        self.at.append(self.clock.now())
        raise UNAVAILABLE

    async def after(self) -> None:
        raise AssertionError("nothing comes after an error")


def test_a_creation_is_tried_three_times_one_and_two_seconds_apart(tmp_path: Path) -> None:
    asyncio.run(write_template(tmp_path / "template.db"))
    world = World(tmp_path / "world.db", tmp_path / "template.db", Setting(seed=1))
    world.loop.finish(world.fill_up())
    (process,) = world.processes
    unwell = Unwell(world.clock)
    process.livekit.faults.always("create_dispatch", unwell)

    with pytest.raises(LiveKitUnavailable):
        world.loop.finish(
            process.service.dispatcher.request(AgentRequest(room_name="room", agent_name=AGENT))
        )

    first, second, third = unwell.at
    assert (second - first, third - second) == (1 * SECOND_US, 2 * SECOND_US)
    world.dispose()
