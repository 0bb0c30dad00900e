"""The main job as a newcomer meets it: the demo page in a real browser, in front of the real stack."""

import asyncio
import json
import re

import aiohttp
import pytest
from livekit import api
from playwright.async_api import Page, Route, expect
from prometheus_client.parser import text_string_to_metric_families

from browser.demo_page import TEXT, Demo
from browser.test_accessibility import violations
from devstack.callers import Caller
from devstack.service import API_KEY, Service
from devstack.truth import RoomTruth, eventually
from devstack.workers import WorkerKind
from fakes.log import most_in_a_printed_second

pytestmark = [pytest.mark.real, pytest.mark.browser]

_LOG_LIMIT = 10
#: More than the page has to stop at.
_MOST_TABS = 20


@pytest.fixture
async def demo(page: Page, service: Service, truth: RoomTruth) -> Demo:
    demo = Demo(page, service, truth.name)
    await demo.open()
    return demo


async def test_five_quick_refreshes_leave_one_agent_and_one_conversation(
    demo: Demo, truth: RoomTruth
) -> None:
    await demo.join()
    assert await demo.ask("first question") == "turn 1: first question"
    people = await truth.people()
    for _ in range(5):
        await demo.refresh()
        await demo.page.wait_for_timeout(150)
    await demo.wait_until_ready()
    await eventually(truth.has_one_agent, "one agent and one dispatch")
    assert await demo.ask("second question") == "turn 2: second question"
    assert len(people) == 1
    assert await truth.people() == people
    assert await truth.has_one_agent()
    await expect(demo.page.get_by_text("turn 1: first question")).to_be_visible()


async def test_who_leaves_and_comes_back_finds_the_same_agent(
    demo: Demo, caller: Caller, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("hello") == "turn 1: hello"
    agents = await truth.agents()
    # Until LiveKit has told the service who is in, the agent waits, and the page says so.
    await expect(demo.page.locator("#agent-state")).to_have_text("in the room")
    await demo.press("Leave")
    await expect(demo.page.locator("#agent-state")).to_have_text("waiting for you")
    await expect(demo.page.locator("#agent-ttl")).to_have_text(re.compile(r"^[45]:\d\d$"))
    await expect(demo.page.locator("#detail")).to_contain_text("The agent waits another")
    assert (await caller.status(truth.name))["state"] == "idle"

    await demo.join(TEXT)
    assert await demo.ask("hello again") == "turn 2: hello again"
    assert await truth.has_one_agent()
    assert await truth.agents() == agents


async def test_three_tabs_with_three_people_share_one_agent(
    demo: Demo, service: Service, truth: RoomTruth
) -> None:
    tabs = [demo, *[Demo(await demo.page.context.new_page(), service, truth.name) for _ in range(2)]]
    for tab in tabs[1:]:
        await tab.open()
    await asyncio.gather(*[tab.join(TEXT) for tab in tabs])

    answers = [await tab.ask(f"question {number}") for number, tab in enumerate(tabs, start=1)]
    assert answers == [f"turn {number}: question {number}" for number in (1, 2, 3)]
    assert len(await truth.people()) == 3
    assert await truth.has_one_agent()


async def test_a_duplicated_tab_is_somebody_else_and_puts_nobody_out(
    demo: Demo, service: Service, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    assert await demo.ask("from the first") == "turn 1: from the first"
    people = await truth.people()
    # A window that a page opens begins with a copy of the page's sessionStorage, as a duplicated tab does.
    async with demo.page.expect_popup() as opened:
        await demo.page.evaluate("open(location.href)")
    second = Demo(await opened.value, service, truth.name)
    await expect(second.status).to_have_text("Ready when you are")
    await expect(second.page.locator("#log li")).to_have_count(0)
    await second.join(TEXT)
    assert await second.ask("from the second") == "turn 2: from the second"

    assert await demo.ask("from the first again") == "turn 3: from the first again"
    both = await truth.people()
    assert len(both) == 2
    assert set(people) < set(both)
    await second.refresh()
    await second.wait_until_ready()
    assert await second.ask("after a refresh") == "turn 4: after a refresh"
    assert sorted(await truth.people()) == sorted(both)


@pytest.mark.parametrize("name", ["Salle à manger / 会议 😀 & <b>"])
async def test_a_room_of_any_name_can_be_joined(
    page: Page, service: Service, livekit_api: api.LiveKitAPI, name: str
) -> None:
    truth = RoomTruth(livekit_api, name)
    demo = Demo(page, service, name)
    await demo.open()
    await demo.join(TEXT)
    try:
        assert await demo.ask("hello") == "turn 1: hello"
        assert await truth.has_one_agent()
        await expect(page.locator("#room-name")).to_have_text(name)
    finally:
        await truth.delete()


async def test_the_keyboard_alone_is_enough(demo: Demo, truth: RoomTruth) -> None:
    async def tab_to(button: str) -> None:
        for _ in range(_MOST_TABS):
            await demo.page.keyboard.press("Tab")
            focused = demo.page.locator(":focus")
            if await focused.count() and (await focused.inner_text()).strip() == button:
                outline = await focused.evaluate("(one) => getComputedStyle(one).outlineStyle")
                assert outline != "none", f"nobody sees that {button!r} has the focus"
                return
        pytest.fail(f"{button!r} is not reached with Tab")

    await tab_to(TEXT)
    await demo.page.keyboard.press("Enter")
    await demo.wait_until_ready()
    # Whoever has joined may write at once.
    await expect(demo.page.get_by_label("Message to the agent")).to_be_focused()
    await demo.page.keyboard.type("without a mouse")
    await demo.page.keyboard.press("Enter")
    assert await demo.answer_to("without a mouse") == "turn 1: without a mouse"

    await tab_to("Microphone")
    await demo.page.keyboard.press("Space")
    await expect(demo.page.locator("#microphone")).to_have_attribute("aria-pressed", "true")
    await tab_to("Leave")
    await demo.page.keyboard.press("Enter")
    await expect(demo.status).to_have_text("You have left")
    await tab_to(TEXT)
    await demo.page.keyboard.press("Enter")
    await demo.wait_until_ready()
    await tab_to("End agent")
    await demo.page.keyboard.press("Space")
    await eventually(truth.has_none, "no agent and no dispatch", timeout_s=10)


async def test_the_agent_is_ended_on_request(demo: Demo, truth: RoomTruth) -> None:
    await demo.join()
    await demo.press("End agent")
    await expect(demo.page.get_by_role("button", name="Join with microphone")).to_be_visible()
    await eventually(truth.has_none, "no agent and no dispatch", timeout_s=10)
    await expect(demo.page.locator("#agent-state")).to_have_text("none")
    await demo.refresh()
    await expect(demo.page.get_by_role("button", name="Join with microphone")).to_be_visible()
    assert await truth.has_none()


async def test_leaving_while_joining_leaves_no_agent_behind(demo: Demo, truth: RoomTruth) -> None:
    """The person cancels when the service has dispatched an agent, and its answer is still on its way."""
    answered = asyncio.Event()

    async def hold_answer(route: Route) -> None:
        response = await route.fetch()
        answered.set()
        await demo.page.get_by_role("button", name="Join with microphone").wait_for()
        await route.fulfill(response=response)

    async def one_dispatch() -> bool:
        return len(await truth.dispatches()) == 1

    await demo.page.route("**/dispatch-agent", hold_answer, times=1)
    await demo.press("Join with microphone")
    await asyncio.wait_for(answered.wait(), 10)
    await eventually(one_dispatch, "a dispatch")
    await demo.press("Cancel")
    await expect(demo.page.locator("#status")).to_have_text("Ready when you are")
    await eventually(truth.has_none, "no agent and no dispatch", timeout_s=10)


@pytest.mark.parametrize("settings", [{"AGENT_TTL_SECONDS": "2", "CLEANUP_INTERVAL_MS": "1000"}])
async def test_after_a_closed_tab_the_agent_ends_with_its_ttl(demo: Demo, truth: RoomTruth) -> None:
    await demo.join()
    assert await demo.ask("hello") == "turn 1: hello"
    await demo.page.close(run_before_unload=True)
    await eventually(truth.has_none, "no agent and no dispatch")


@pytest.mark.parametrize("settings", [{"LOG_RATE_LIMIT": str(_LOG_LIMIT), "LOG_LEVEL": "debug"}])
async def test_under_heavy_activity_the_log_stays_within_its_limit(
    demo: Demo, service: Service, caller: Caller, truth: RoomTruth
) -> None:
    await demo.join(TEXT)
    for number in range(1, 11):
        assert await demo.ask(f"question {number}") == f"turn {number}: question {number}"
        await asyncio.gather(demo.refresh(), *[caller.request_agent(truth.name) for _ in range(20)])
        await demo.wait_until_ready()
    assert await truth.has_one_agent()

    assert await dropped_lines(service) > 0, "the log was never at its limit"
    lines = [json.loads(line) for line in service.child.output().splitlines()]
    assert most_in_a_printed_second(lines) <= _LOG_LIMIT


async def dropped_lines(service: Service) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"{service.base_url}/metrics") as answer:
        metrics = text_string_to_metric_families(await answer.text())
        return sum(
            sample.value
            for family in metrics
            for sample in family.samples
            if sample.name == "agent_lifecycle_log_lines_total" and sample.labels["result"] == "dropped"
        )


@pytest.mark.parametrize("settings", [{"LIFECYCLE_ENV": "production", "DEMO_PAGE": "true"}])
async def test_outside_dev_the_page_asks_for_an_api_key_and_keeps_it_in_its_tab(
    demo: Demo, service: Service, truth: RoomTruth
) -> None:
    await demo.press(TEXT)
    await expect(demo.notice).to_have_text("This service issues tokens only to holders of an API key.")
    await expect(demo.api_key).to_be_focused()
    assert await violations(demo.page) == []
    await demo.page.keyboard.type("a-key-that-is-none-of-ours")
    await demo.page.keyboard.press("Enter")
    await expect(demo.notice).to_have_text("This is not one of the service's API keys.")
    assert await truth.has_none()

    await demo.api_key.fill(API_KEY)
    await demo.press("Use this key")
    await demo.wait_until_ready()
    assert await demo.ask("hello") == "turn 1: hello"
    await demo.refresh()
    await demo.wait_until_ready()
    assert await demo.ask("still here") == "turn 2: still here"

    kept = "document.cookie + location.href + JSON.stringify(localStorage)"
    assert API_KEY not in await demo.page.evaluate(kept)
    other = Demo(await demo.page.context.new_page(), service, truth.name)
    await other.open()
    await other.press(TEXT)
    await expect(other.api_key).to_be_visible()


@pytest.mark.parametrize("worker_kind", [WorkerKind.PLAIN])
async def test_a_plain_agent_answers_after_a_refresh_as_well(demo: Demo, truth: RoomTruth) -> None:
    await demo.join()
    assert await demo.ask("hello") == "turn 1: hello"
    await demo.refresh()
    await demo.wait_until_ready()
    assert await demo.ask("are you there") == "turn 1: are you there"
    await eventually(truth.has_one_agent, "one agent and one dispatch")
