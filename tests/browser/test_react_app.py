"""The hooks of the package in a fresh React app, as the README's examples use them, under StrictMode."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from browser.frontend import Frontend
from devstack.callers import Caller
from devstack.fresh_app import build_for_development
from devstack.npm import Npm
from devstack.ports import free_port
from devstack.truth import RoomTruth, eventually
from made_once import made_once

pytestmark = [pytest.mark.real, pytest.mark.browser]

_READY_MS = 20_000


@pytest.fixture(scope="session")
def built_app(react_app: Npm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "react-dist", lambda folder: build_for_development(react_app, folder))


@pytest.fixture
async def frontend(built_app: Path, service_port: int) -> AsyncIterator[Frontend]:
    async with Frontend(built_app, free_port(), f"http://127.0.0.1:{service_port}") as frontend:
        yield frontend


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LIFECYCLE_ENV": "production"}


class Example:
    """One of the README's examples in a tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.status = page.get_by_role("status")

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def talk(self) -> None:
        await self.press("Talk")
        await expect(self.status).to_have_text("The agent is here", timeout=_READY_MS)

    async def ask(self, text: str) -> str:
        await self.page.get_by_label("Message").fill(text)
        await self.press("Send")
        answer = self.page.get_by_role("listitem").filter(has_text="agent: ").filter(has_text=f": {text}")
        await expect(answer).to_be_visible(timeout=_READY_MS)
        return (await answer.inner_text()).removeprefix("agent: ")


async def dispatched(caller: Caller, room: str) -> int:
    """How many agents the room was ever given."""
    listed = [await caller.agents(roomName=room), await caller.agents(roomName=room, state="ended")]
    return sum(len(agents) for agents in listed)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("example", ["call", "session"])
async def test_an_example_of_the_readme_talks_with_one_agent_and_leaves(
    page: Page, frontend: Frontend, caller: Caller, truth: RoomTruth, example: str
) -> None:
    await page.goto(frontend.url("index", {"show": example, "room": truth.name}))
    # Else it would not be StrictMode that this runs under.
    await expect(page.locator("body")).to_have_attribute("data-mounts", "2")
    tab = Example(page)
    await expect(tab.status).to_have_text("Not connected")
    await tab.talk()
    assert await tab.ask("first question") == "turn 1: first question"
    assert await truth.has_one_agent()
    people = await truth.people()

    await page.reload()
    await tab.talk()
    assert await tab.ask("second question") == "turn 2: second question"
    assert await truth.people() == people
    assert await truth.has_one_agent()

    await tab.press("Leave")
    await expect(tab.status).to_have_text("You have left")

    async def is_empty() -> bool:
        return await truth.people() == []

    await eventually(is_empty, "nobody in the room")
    assert await truth.has_one_agent()
    assert await dispatched(caller, truth.name) == 1


@pytest.mark.usefixtures("service")
async def test_a_hook_that_connects_by_itself_is_one_person_with_one_agent(
    page: Page, frontend: Frontend, caller: Caller, truth: RoomTruth
) -> None:
    await page.goto(frontend.url("index", {"show": "by-itself", "room": truth.name}))
    await expect(page.get_by_role("status")).to_have_text("The agent is here", timeout=_READY_MS)

    await expect(page.locator("body")).to_have_attribute("data-mounts", "2")
    assert len(await truth.people()) == 1
    await eventually(truth.has_one_agent, "one agent and one dispatch")
    assert await dispatched(caller, truth.name) == 1
