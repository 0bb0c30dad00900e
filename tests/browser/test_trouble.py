"""When something is wrong: the page says the right sentence, trying again works, nothing is left behind."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit import api
from playwright.async_api import Browser, Locator, Page, Route, expect

from browser.demo_page import TEXT, VOICE, Demo
from browser.network import cut
from devstack.callers import Caller
from devstack.chaos.fork_server import ForkServer
from devstack.livekit_server import LiveKitServer
from devstack.processes import Child
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import Worker, WorkerKind

pytestmark = [pytest.mark.real, pytest.mark.browser]

_FAILED = "The connection failed"
_LOST = "Connection lost, reconnecting…"
_SERVICE_GONE = "The agent service cannot be reached."
_LIVEKIT_GONE = "The call server cannot be reached."
_NO_AGENT = "No agent is available right now."
_NOT_ALLOWED = "You are not allowed into this room."
_MICROPHONE_REFUSED = "The browser blocks the microphone."
_RETRY = "Try again"
#: A key of which LiveKit knows nothing any more.
_RETIRED = ("retired-key", "retired-secret-of-at-least-32-characters")


@pytest.fixture
async def demo(page: Page, service: Service, truth: RoomTruth) -> Demo:
    """With a clock that a test may put forward; it goes on by itself in between."""
    await page.clock.install()
    demo = Demo(page, service, truth.name)
    await demo.open()
    return demo


async def pass_waits_until(demo: Demo, place: Locator, text: str) -> None:
    """Let the page's waits pass at once, in steps after which LiveKit's client does not miss its pings.

    The time limits of its requests run on the same clock: it stands still while one is under way.
    """

    async def is_so() -> bool:
        if not demo.asks:
            await demo.page.clock.fast_forward(5_000)
        return await place.inner_text() == text

    await eventually(is_so, f"the page says {text!r}", timeout_s=40)


async def test_a_service_that_is_down(demo: Demo, service: Service, truth: RoomTruth) -> None:
    await asyncio.to_thread(service.kill)
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text(_SERVICE_GONE)
    await pass_waits_until(demo, demo.status, _FAILED)
    await expect(demo.notice).to_have_text(_SERVICE_GONE)
    assert await truth.has_none()

    await asyncio.to_thread(service.start)
    await demo.join(_RETRY)
    assert await demo.ask("are you there") == "turn 1: are you there"
    assert await truth.has_one_agent()


async def test_a_token_that_is_refused(demo: Demo, truth: RoomTruth) -> None:
    async def damage(route: Route) -> None:
        answer = await route.fetch()
        credentials = await answer.json()
        await route.fulfill(status=201, json=credentials | {"participant_token": "not.a.token"})

    await demo.page.route("**/api/livekit/token", damage, times=1)
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text(_NOT_ALLOWED)
    await expect(demo.status).to_have_text(_FAILED)
    assert await truth.has_none()

    await demo.join(_RETRY)
    assert await truth.has_one_agent()


@pytest.mark.parametrize("settings", [{"LIVEKIT_WEBHOOK_KEYS": ":".join(_RETIRED)}])
async def test_a_token_that_the_service_takes_and_livekit_does_not(
    demo: Demo, caller: Caller, truth: RoomTruth
) -> None:
    """LiveKit has lost a key before the service has: an agent is dispatched, and has to be given back."""

    async def sign_with_the_old_key(route: Route) -> None:
        answer = await route.fetch()
        token = (
            api.AccessToken(*_RETIRED)
            .with_identity("guest")
            .with_grants(api.VideoGrants(room_join=True, room=truth.name))
        )
        await route.fulfill(status=201, json=await answer.json() | {"participant_token": token.to_jwt()})

    async def give_back_once_it_is_in(route: Route) -> None:
        if route.request.method == "DELETE":
            await eventually(truth.has_one_agent, "the agent that is given back is in")
        await route.continue_()

    await demo.page.route("**/api/livekit/token", sign_with_the_old_key, times=1)
    await demo.page.route("**/api/livekit/dispatch-agent*", give_back_once_it_is_in)
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text(_NOT_ALLOWED)
    await expect(demo.status).to_have_text(_FAILED)
    await is_given_back(caller, truth)

    await demo.join(_RETRY)
    assert await demo.ask("hello") == "turn 1: hello"
    assert await truth.has_one_agent()


async def test_a_microphone_that_is_refused(browser: Browser, service: Service, truth: RoomTruth) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    demo = Demo(page, service, truth.name)
    await demo.open()
    await demo.join(VOICE)
    await expect(demo.notice).to_have_text(_MICROPHONE_REFUSED)
    assert await demo.ask("do you read me") == "turn 1: do you read me"

    await context.grant_permissions(["microphone"])
    await demo.press("Microphone")
    await expect(demo.notice).to_be_hidden()
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")
    assert await truth.has_one_agent()
    await context.close()


async def test_a_network_that_is_lost_for_five_seconds(
    browser: Browser, demo: Demo, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("before") == "turn 1: before"
    async with cut(browser):
        await demo.write("meanwhile")
        await demo.page.wait_for_timeout(5_000)
        # Nobody has read it.
        await expect(demo.answers).to_have_count(1)

    assert await demo.answer_to("meanwhile") == "turn 2: meanwhile"
    assert await demo.ask("after") == "turn 3: after"
    assert await truth.has_one_agent()


async def test_a_network_that_is_lost_until_livekit_misses_the_person(
    browser: Browser, demo: Demo, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("before") == "turn 1: before"
    people, agents = await truth.people(), await truth.agents()
    async with cut(browser):
        await is_missed(truth)
        await expect(demo.status).to_have_text(_LOST)
        assert await truth.agents() == agents

    await demo.wait_until_ready()
    assert await demo.ask("after") == "turn 2: after"
    assert (await truth.people(), await truth.agents()) == (people, agents)
    assert await truth.has_one_agent()


async def test_a_network_that_is_lost_for_longer_than_the_page_tries(
    browser: Browser, demo: Demo, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("before") == "turn 1: before"
    agents = await truth.agents()
    # Without it a request would not fail, but wait for its time-out.
    await demo.page.context.set_offline(True)
    async with cut(browser):
        await is_missed(truth)
    # LiveKit's client tries for some 45 s to come back, then the page does.
    await pass_waits_until(demo, demo.status, _FAILED)
    await expect(demo.notice).to_have_text(_SERVICE_GONE)
    assert await truth.people() == []

    await demo.page.context.set_offline(False)
    await demo.join(_RETRY)
    assert await demo.ask("after") == "turn 2: after"
    assert await truth.agents() == agents
    assert await truth.has_one_agent()


async def is_given_back(caller: Caller, truth: RoomTruth) -> None:
    """There was one agent for nobody, and it is gone."""
    await eventually(truth.has_none, "no agent and no dispatch", timeout_s=10)

    async def is_ended() -> bool:
        reasons = [one["endReason"] for one in await caller.agents(roomName=truth.name, state="ended")]
        # On a busy machine an agent may not answer in time, and the page's next call replaces it.
        return reasons.count("requested") == 1 and set(reasons) <= {"requested", "replaced"}

    await eventually(is_ended, "one agent that was ended on request")


async def is_missed(truth: RoomTruth) -> None:
    async def nobody_is_in() -> bool:
        return await truth.people() == []

    await eventually(nobody_is_in, "LiveKit has missed the person", timeout_s=60)


async def test_a_livekit_that_is_down_at_joining(
    demo: Demo, truth: RoomTruth, livekit_server: LiveKitServer, living_workers: dict[WorkerKind, Worker]
) -> None:
    await asyncio.to_thread(livekit_server.kill)
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text(_LIVEKIT_GONE)
    await pass_waits_until(demo, demo.status, _FAILED)
    await expect(demo.notice).to_have_text(_LIVEKIT_GONE)

    await asyncio.to_thread(livekit_server.start)
    assert await truth.has_none()
    for worker in living_workers.values():
        await asyncio.to_thread(worker.revive)
    await demo.press(_RETRY)
    await demo.wait_until_ready(timeout_s=60)
    assert await demo.ask("hello") == "turn 1: hello"
    await eventually(truth.has_one_agent, "one agent and one dispatch")


async def test_a_livekit_that_only_the_page_cannot_reach(
    demo: Demo, caller: Caller, truth: RoomTruth
) -> None:
    """The service has dispatched the agent by then: it is given back."""
    await demo.page.route_web_socket("**/rtc**", lambda socket: socket.close())
    await demo.page.reload()
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text(_LIVEKIT_GONE)
    await eventually(truth.has_one_agent, "one agent and one dispatch")
    await pass_waits_until(demo, demo.status, _FAILED)
    await expect(demo.notice).to_have_text(_LIVEKIT_GONE)
    await is_given_back(caller, truth)


async def test_a_livekit_that_goes_down(
    demo: Demo, truth: RoomTruth, livekit_server: LiveKitServer, living_workers: dict[WorkerKind, Worker]
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("before") == "turn 1: before"
    await asyncio.to_thread(livekit_server.kill)
    # Else its agent connects anew to a LiveKit that is back, and can answer once before it is removed.
    await asyncio.to_thread(living_workers[WorkerKind.REUSABLE].kill)
    await expect(demo.status).to_have_text(_LOST)
    await pass_waits_until(demo, demo.status, _FAILED)
    await expect(demo.notice).to_have_text(_LIVEKIT_GONE)

    await asyncio.to_thread(livekit_server.start)
    for worker in living_workers.values():
        await asyncio.to_thread(worker.revive)
    await demo.press(_RETRY)
    await demo.wait_until_ready(timeout_s=60)
    assert re.fullmatch(r"turn \d: after", await demo.ask("after"))
    await eventually(truth.has_one_agent, "one agent and one dispatch")


@pytest.mark.parametrize("settings", [{"AGENT_NAME": "late-agent", "AGENT_TTL_SECONDS": "2"}])
async def test_no_worker(
    demo: Demo,
    truth: RoomTruth,
    late_worker: Worker,
) -> None:
    await demo.press(TEXT)
    await expect(demo.status).to_have_text("Waiting for the agent…")
    await pass_waits_until(demo, demo.notice, _NO_AGENT)

    # Before there is a worker: after that the agent may come by itself, and there is nothing left to press.
    await demo.press(_RETRY)
    await asyncio.to_thread(late_worker.start)
    await demo.wait_until_ready(timeout_s=60)
    await eventually(truth.has_one_agent, "one agent and one dispatch")
    await demo.press("Leave")
    await eventually(truth.has_none, "no agent and no dispatch")


@pytest.fixture
async def late_worker(
    livekit_server: LiveKitServer, worker_fork_server: ForkServer, tmp_path: Path, children: list[Child]
) -> AsyncIterator[Worker]:
    """One that is not there yet."""
    worker = Worker(livekit_server, tmp_path, agent_name="late-agent", spawn=worker_fork_server.spawn)
    children.append(worker.child)
    yield worker
    await asyncio.to_thread(worker.stop)
    children.remove(worker.child)
