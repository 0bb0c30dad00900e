"""Frontends that know nothing of this service: LiveKit's own TokenSource, pointed at our token endpoint."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit import api
from playwright.async_api import Page, expect

from browser.frontend import Frontend, build_pages
from devstack.ports import free_port
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from made_once import made_once

pytestmark = [pytest.mark.real, pytest.mark.browser]

_AGENT = "reusable-agent"
_READY_MS = 20_000


class Call:
    """One tab on such a page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def start(self) -> tuple[str, str]:
        """Press the button, wait for the agent, and give one's identity and room."""
        await self.page.get_by_role("button", name="Start call").click()
        await expect(self.page.locator("#agent")).to_have_text("listening", timeout=_READY_MS)
        # The page learns its own name a render later than the agent's state.
        await expect(self.page.locator("#identity")).not_to_be_empty()
        return await self.page.locator("#identity").inner_text(), await self.page.locator(
            "#room"
        ).inner_text()

    async def ask(self, text: str) -> str:
        await self.page.get_by_label("Message").fill(text)
        await self.page.keyboard.press("Enter")
        answer = self.page.locator("#answers li", has_text=f": {text}")
        await expect(answer).to_be_visible(timeout=_READY_MS)
        return await answer.inner_text()


@pytest.fixture(scope="session")
def pages(
    demo_assets: None,  # noqa: ARG001 - building it installs what the pages are built with
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return made_once(tmp_path_factory, "pages", build_pages)


@pytest.fixture(scope="session")
def frontend_port() -> int:
    return free_port()


@pytest.fixture
async def frontend(pages: Path, frontend_port: int, service_port: int) -> AsyncIterator[Frontend]:
    async with Frontend(pages, frontend_port, f"http://127.0.0.1:{service_port}") as frontend:
        yield frontend


@pytest.fixture
def environment() -> str:
    return "production"


@pytest.fixture
def settings(frontend: Frontend, environment: str) -> dict[str, str]:
    return {
        "LIFECYCLE_ENV": environment,
        "SESSION_ROOMS": "cookie",
        "CORS_ORIGINS": frontend.origin("localhost"),
    }


async def only_room(livekit_api: api.LiveKitAPI) -> RoomTruth:
    """The only room with people: a late agent of a test before may have made its room anew."""
    rooms = (await livekit_api.room.list_rooms(api.ListRoomsRequest())).rooms
    truths = [RoomTruth(livekit_api, room.name) for room in rooms]
    (truth,) = [truth for truth in truths if await truth.people()]
    return truth


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", ["plain", "starter"])
async def test_a_refresh_is_the_same_person_with_the_same_agent(
    page: Page, frontend: Frontend, livekit_api: api.LiveKitAPI, name: str
) -> None:
    await page.goto(frontend.url(name, {"agent": _AGENT}))
    call = Call(page)
    before = await call.start()
    assert await call.ask("first question") == "turn 1: first question"
    agents = await (await only_room(livekit_api)).agents()
    for _ in range(3):
        await page.reload()
        assert await call.start() == before
    assert await call.ask("second question") == "turn 2: second question"

    truth = await only_room(livekit_api)
    assert truth.name == before[1]
    assert await truth.agents() == agents
    assert await truth.has_one_agent()


@pytest.mark.usefixtures("service")
async def test_two_tabs_are_two_people_in_one_room(
    page: Page, frontend: Frontend, livekit_api: api.LiveKitAPI
) -> None:
    tabs = [page, await page.context.new_page()]
    visits = []
    for tab in tabs:
        await tab.goto(frontend.url("plain", {"agent": _AGENT}))
        visits.append(await Call(tab).start())

    assert [await Call(tab).ask(f"tab {number}") for number, tab in enumerate(tabs, start=1)] == [
        "turn 1: tab 1",
        "turn 2: tab 2",
    ]
    truth = await only_room(livekit_api)
    assert sorted(await truth.people()) == sorted(identity for identity, _ in visits)
    assert await truth.has_one_agent()
    # The second tab comes back as itself, and not as the first.
    await page.context.pages[1].reload()
    assert await Call(tabs[1]).start() == visits[1]


@pytest.mark.parametrize("environment", ["dev"])
async def test_a_page_of_another_site_keeps_its_room(
    page: Page, frontend: Frontend, service: Service, livekit_api: api.LiveKitAPI
) -> None:
    endpoint = f"{service.base_url}/api/livekit/token"
    # `localhost` and 127.0.0.1 are two sites to a browser.
    await page.goto(frontend.url("plain", {"agent": _AGENT, "endpoint": endpoint}, host="localhost"))
    call = Call(page)
    before = await call.start()
    await page.reload()
    assert await call.start() == before
    await eventually((await only_room(livekit_api)).has_one_agent, "one agent and one dispatch")


@pytest.mark.parametrize("environment", ["dev"])
async def test_a_page_that_is_not_named_gets_no_token(
    page: Page, frontend: Frontend, service: Service, livekit_api: api.LiveKitAPI
) -> None:
    endpoint = f"{service.base_url}/api/livekit/token"
    await page.goto(frontend.url("plain", {"agent": _AGENT, "endpoint": endpoint}))
    await page.get_by_role("button", name="Start call").click()

    await expect(page.locator("#error")).to_have_text("TypeError: Failed to fetch")
    assert not (await livekit_api.room.list_rooms(api.ListRoomsRequest())).rooms
