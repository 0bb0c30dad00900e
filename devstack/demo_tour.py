"""A tour of the demo page through every state that a person can see."""

import asyncio
from collections.abc import AsyncIterator, Callable

from playwright.async_api import Page, Route, expect

from devstack.service import API_KEY

#: How far the clock of a waiting page is moved per step.
_STEP_MS = 5_000
_STEPS = 40
_BOUND_MS = 20_000
#: Holds the page's messages to LiveKit back until they are let through.
_HOLD_CALL = """() => {
    const { prototype } = WebSocket;
    const { send } = prototype;
    const held = [];
    prototype.send = function (...given) { held.push([this, given]); };
    window.letCallThrough = () => {
        prototype.send = send;
        for (const [socket, given] of held) send.apply(socket, given);
    };
}"""


async def tour(page: Page, base_url: str, room: str) -> AsyncIterator[str]:
    """Yield the name of each state while the page shows it, in a room of its own.

    All states are real: requests only take longer or do not arrive, and another caller ends the agent.
    """
    await page.clock.install()
    await page.goto(f"{base_url}/demo?room={room}")
    for part in (
        _joining(page),
        _talking(page),
        _without_agent(page, base_url, room),
        _without_network(page),
    ):
        async for state in part:
            yield state

    await page.get_by_role("button", name="Leave").click()
    await page.context.clear_permissions()
    await page.get_by_role("button", name="Join with microphone").click()
    await expect(page.locator("#notice-sentence")).to_have_text("The browser blocks the microphone.")
    await _is_ready(page)
    yield "no-microphone"


async def _joining(page: Page) -> AsyncIterator[str]:
    await _says(page, "Ready when you are")
    yield "idle"

    let_through = await _hold(page, "**/dispatch-agent")
    await page.evaluate(_HOLD_CALL)
    await page.get_by_role("button", name="Join with microphone").click()
    await _says(page, "Requesting the agent…")
    yield "asking"
    let_through()
    await _says(page, "Joining the room…")
    yield "connecting"
    await page.evaluate("letCallThrough()")
    await _is_ready(page)


async def _talking(page: Page) -> AsyncIterator[str]:
    for question in ("Hello, who is there?", "And now I have refreshed the page", "Do you still know me?"):
        await _ask(page, question)
        if question.startswith("Hello"):
            await page.reload()
            await _is_ready(page)
    await expect(page.locator("#agent-state")).to_have_text("in the room")
    yield "talking"

    await page.get_by_role("button", name="Leave").click()
    await expect(page.locator("#detail")).to_contain_text("The agent waits another")
    yield "left"
    await page.get_by_role("button", name="Join with microphone").click()
    await _is_ready(page)


async def _without_agent(page: Page, base_url: str, room: str) -> AsyncIterator[str]:
    await page.request.delete(
        f"{base_url}/api/livekit/dispatch-agent",
        params={"roomName": room},
        headers={"Authorization": f"Bearer {API_KEY}"},
    )
    await _says(page, "Waiting for the agent…")
    await expect(page.locator("#agent-state")).to_have_text("none")
    let_through = await _hold(page, "**/agent-status*")
    # Else the page's patience could end before somebody has looked. Timers go on, for who looks needs some.
    now_s = await page.evaluate("Date.now()") / 1_000
    await page.clock.set_fixed_time(now_s)
    await expect(page.locator("#notice")).to_be_hidden()
    yield "waiting"
    await page.clock.set_system_time(now_s)
    let_through()
    await expect(page.locator("#notice-sentence")).to_have_text(
        "No agent is available right now.", timeout=_BOUND_MS
    )
    yield "no-agent"
    await page.get_by_role("button", name="Try again").click()
    await _is_ready(page)


async def _without_network(page: Page) -> AsyncIterator[str]:
    await page.context.set_offline(True)
    await _wait_until_it_says(page, "Connection lost, reconnecting…")
    yield "reconnecting"
    await _wait_until_it_says(page, "The connection failed")
    yield "failed"
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Try again").click()
    await _is_ready(page)


async def _hold(page: Page, requests: str) -> Callable[[], None]:
    """Hold these requests until the returned function is called."""
    looked = asyncio.Event()

    async def hold(route: Route) -> None:
        await looked.wait()
        await route.continue_()

    await page.route(requests, hold)
    return looked.set


async def _is_ready(page: Page) -> None:
    await expect(page.locator("#send")).to_be_enabled(timeout=_BOUND_MS)


async def _ask(page: Page, text: str) -> None:
    await page.get_by_label("Message to the agent").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".said.agent", has_text=f": {text}")).to_be_visible(timeout=_BOUND_MS)


async def _says(page: Page, status: str) -> None:
    await expect(page.locator("#status")).to_have_text(status, timeout=_BOUND_MS)


async def _wait_until_it_says(page: Page, status: str) -> None:
    """Move the page's clock until it shows this status."""
    for _ in range(_STEPS):
        if await page.locator("#status").inner_text() == status:
            return
        await page.clock.fast_forward(_STEP_MS)
        await page.wait_for_timeout(100)
    await _says(page, status)
