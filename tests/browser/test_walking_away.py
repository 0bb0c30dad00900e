"""Who walks away in the middle of connecting leaves no agent behind, whatever the moment."""

import asyncio
import random
from collections.abc import Iterable

import pytest
from livekit import api
from playwright.async_api import Page

from browser.demo_page import TEXT, Demo
from devstack.callers import Caller
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from sizes import SIZES

pytestmark = [pytest.mark.real, pytest.mark.browser]

#: From the press of the button; the agent is there after about half of this.
_LATEST_MS = 1_000
_TTL_S = 2


@pytest.mark.parametrize("settings", [{"AGENT_TTL_SECONDS": str(_TTL_S), "CLEANUP_INTERVAL_MS": "1000"}])
async def test_moments_between_the_press_and_the_answer(
    page: Page, service: Service, caller: Caller, livekit_api: api.LiveKitAPI
) -> None:
    chance = random.Random(6)  # noqa: S311 - reproducible, not secret
    rooms = {f"walk-away-{number}": chance.uniform(0, _LATEST_MS) for number in range(SIZES.moments)}

    async def walk_away(rooms: Iterable[tuple[str, float]]) -> None:
        for room, moment_ms in rooms:
            # A tab of its own: one that has joined before would join by itself.
            demo = Demo(await page.context.new_page(), service, room)
            await demo.open()
            await demo.press(TEXT)
            await demo.page.wait_for_timeout(moment_ms)
            await demo.page.goto("about:blank")
            await demo.page.close()

    walks = list(rooms.items())
    await asyncio.gather(walk_away(walks[::2]), walk_away(walks[1::2]))

    for room in rooms:
        truth = RoomTruth(livekit_api, room)
        # LiveKit misses one who went without a word only after some 20 s.
        await eventually(truth.has_none, f"no agent and no dispatch in {room}", timeout_s=60)
        await truth.delete()

    async def none_is_left() -> bool:
        return await caller.agents() == []

    # LiveKit shows it before the service has stored it.
    await eventually(none_is_left, "the service has no agent either")
    ended = await caller.agents(state="ended", limit="500")
    # Else the moments were all too early, and the test has shown nothing.
    assert len({agent["roomName"] for agent in ended} & rooms.keys()) > SIZES.moments / 2
