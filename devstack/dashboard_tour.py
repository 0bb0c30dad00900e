"""A tour of the dashboard for its pictures, with real rooms, agents and people."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from playwright.async_api import Page, expect

from devstack.callers import Caller
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.service import API_KEY

#: The number of people in each room.
ROOMS = {
    "concierge:1204": 1,
    "interview-design": 0,
    "kiosk@lobby-7": 0,
    "onboarding 31": 1,
    "support-4837": 2,
    "triage-eu-west": 1,
}
#: The room whose timeline is shown: a person was there, left, and came back.
OPENED = "concierge:1204"

_BOUND_MS = 20_000
_MINUTE_MS = 60_000
#: The minutes before this one are made up: a real hour would take an hour.
_EARLIER_MINUTES = """(minutes, minuteMs) => {
    const Real = window.EventSource;
    window.EventSource = class extends Real {
        addEventListener(name, listener) {
            super.addEventListener(name, name !== "snapshot" ? listener : (event) => {
                const snapshot = JSON.parse(event.data);
                const now = snapshot.at - snapshot.at % minuteMs;
                snapshot.minutes = minutes.map((minute) => ({ ...minute, at: now - minute.ago * minuteMs }));
                listener(new MessageEvent(name, { data: JSON.stringify(snapshot) }));
            });
        }
    };
}"""


@asynccontextmanager
async def peopled(server: LiveKitServer, base_url: str) -> AsyncIterator[None]:
    """Keep an agent and people in each room during the block."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(Caller(base_url))
        for room, count in ROOMS.items():
            await caller.request_agent(room)
            async with Person() as person:
                await person.join(server.url, member_token(server, room, "guest"))
                await person.wait_for_agents()
            for number in range(count):
                await caller.request_agent(room)
                person = await stack.enter_async_context(Person())
                await person.join(server.url, member_token(server, room, f"guest-{number}"))
        yield


async def open_dashboard(page: Page, base_url: str) -> None:
    """Sign in and wait until all rooms are shown, with an hour in the charts."""
    await page.add_init_script(_hour())
    await page.goto(f"{base_url}/dashboard")
    await page.get_by_label("API key").fill(API_KEY)
    await page.keyboard.press("Enter")
    for room, count in ROOMS.items():
        row = page.get_by_role("row").filter(has=page.get_by_role("button", name=room, exact=True))
        await expect(row).to_contain_text("Active" if count else "Idle", timeout=_BOUND_MS)


async def open_time_line(page: Page) -> None:
    await page.get_by_role("button", name=OPENED, exact=True).click()
    await expect(page.get_by_role("dialog", name=OPENED)).to_contain_text("The last person left")


def _hour() -> str:
    chance = random.Random(1204)  # noqa: S311 - the same hour in each picture
    minutes = []
    for ago in range(59, 0, -1):
        created, reused = chance.choice((0, 0, 1, 1, 2)), chance.choice((0, 1, 1, 2, 3))
        minutes.append(
            {
                "ago": ago,
                "created": created,
                "fresh": created,
                "reused": reused,
                "replaced": int(chance.random() < 0.08),  # noqa: PLR2004 - one in twelve
                "cleanups": chance.choice((0, 0, 1, 2)),
                "cleanupFailures": int(ago in (8, 41)),
                "drift": int(chance.random() < 0.06),  # noqa: PLR2004 - one in sixteen
                "logLines": 90 + 40 * (created + reused),
                "logDropped": {33: 24, 32: 51, 31: 40}.get(ago, 0),
            }
        )
    return f"({_EARLIER_MINUTES})({json.dumps(minutes)}, {_MINUTE_MS})"
