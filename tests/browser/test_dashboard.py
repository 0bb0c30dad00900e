"""The dashboard in a real browser, in front of the real stack."""

import asyncio
import itertools
import re
import time
from typing import Any

import pytest
from playwright.async_api import Locator, Page, ViewportSize, expect

from browser.dashboard_page import Dashboard, agent
from browser.test_accessibility import violations
from devstack.callers import Caller
from devstack.livekit_server import LiveKitServer
from devstack.people import Person, member_token
from devstack.service import API_KEY, Service
from devstack.truth import RoomTruth

pytestmark = [pytest.mark.real, pytest.mark.browser]

_LIFE_MS = 20_000
_TTL_S = 4
_PHONE: ViewportSize = {"width": 360, "height": 740}
_LONG_NAME = "a-room-name-of-the-greatest-length-there-is:" + "x" * 84
_HOSTILE_NAMES = ["<img src=x onerror=alert(1)>", "<script>alert(1)</script>", '"><svg onload=alert(1)>']


@pytest.fixture
def settings() -> dict[str, str]:
    return {"AGENT_TTL_SECONDS": str(_TTL_S)}


@pytest.fixture
async def dashboard(page: Page, service: Service) -> Dashboard:
    return Dashboard(page, service)


async def test_an_agent_becomes_active_idle_and_ended_without_a_reload(
    dashboard: Dashboard, caller: Caller, truth: RoomTruth, livekit_server: LiveKitServer
) -> None:
    await dashboard.open_signed_in()
    await dashboard.page.evaluate("window.untouched = true")
    async with Person() as person:
        await person.join(livekit_server.url, member_token(livekit_server, truth.name, "alice"))
        await caller.request_agent(truth.name)
        await expect(dashboard.state(truth.name)).to_have_text("Active", timeout=_LIFE_MS)
        await expect(dashboard.row(truth.name)).to_contain_text("1")
        await expect(dashboard.ttl(truth.name)).to_have_text(re.compile(r"^\D$"))
        await dashboard.record_ttls()

    await expect(dashboard.state(truth.name)).to_have_text("Idle", timeout=_LIFE_MS)
    await expect(dashboard.state(truth.name)).to_have_text("Ended", timeout=_LIFE_MS)
    shown = await dashboard.recorded_ttls(truth.name)
    seconds = [int(text.removeprefix("0:")) for text in shown if text.startswith("0:")]
    assert {1, 2} & set(seconds), shown
    # A page that is held up for a second goes on with the next.
    assert all(1 <= before - after <= 2 for before, after in itertools.pairwise(seconds)), shown
    await expect(dashboard.row(truth.name)).to_contain_text("expired")
    assert await truth.has_none()

    # The timeline, by keyboard alone.
    await dashboard.page.get_by_role("button", name=truth.name, exact=True).focus()
    await dashboard.page.keyboard.press("Enter")
    timeline = dashboard.page.get_by_role("dialog", name=truth.name)
    await expect(timeline.locator(".what")).to_contain_text(["The last person left", "The agent joined"])
    await expect(timeline).to_contain_text("its TTL expired")
    await dashboard.page.keyboard.press("Escape")
    await expect(timeline).to_be_hidden()
    await expect(dashboard.page.get_by_role("button", name=truth.name, exact=True)).to_be_focused()

    assert await dashboard.page.evaluate("window.untouched")


async def test_an_ended_agent_leaves_the_list_and_an_empty_list_gives_advice(
    dashboard: Dashboard,
) -> None:
    await dashboard.open_on([agent(1)])
    ended = agent(1, version=2, state="ended", endReason="gone")
    ended["endedAt"] = ended["createdAt"]
    await dashboard.say("changes", at=ended["endedAt"], agents=[ended])
    await expect(dashboard.state("room-00001")).to_have_text("Ended")
    await dashboard.say("changes", at=ended["endedAt"] + 16_000, agents=[])
    await expect(dashboard.rows).to_have_count(0)
    await expect(dashboard.page.get_by_text("No agents right now.")).to_be_visible()
    await expect(dashboard.page.locator("#empty")).to_contain_text("POST /api/livekit/dispatch-agent")
    await dashboard.page.get_by_label("Show").select_option("Recently ended")
    await expect(dashboard.row("room-00001")).to_contain_text("gone")


@pytest.mark.parametrize("settings", [{}])
async def test_the_page_reconnects_after_a_restart_of_the_service(
    dashboard: Dashboard, service: Service, caller: Caller, truth: RoomTruth
) -> None:
    await dashboard.open_signed_in()
    await dashboard.page.evaluate("window.untouched = true")
    await caller.request_agent(truth.name)
    await expect(dashboard.state(truth.name)).to_have_text("Idle", timeout=_LIFE_MS)

    await asyncio.to_thread(service.kill)
    await expect(dashboard.connection).to_contain_text("Reconnecting. Data as of ")
    await expect(dashboard.page.locator("#board")).to_have_class("stale")
    await truth.delete()
    await asyncio.to_thread(service.start)

    await expect(dashboard.connection).to_have_text("Live", timeout=_LIFE_MS)
    await expect(dashboard.page.locator("#board")).not_to_have_class("stale")
    await expect(dashboard.row(truth.name).filter(has_not_text="Ended")).to_have_count(0, timeout=_LIFE_MS)
    assert await dashboard.page.evaluate("window.untouched")


async def test_an_agent_is_ended_only_after_confirmation(
    dashboard: Dashboard, caller: Caller, truth: RoomTruth, livekit_server: LiveKitServer
) -> None:
    await dashboard.open_signed_in()
    async with Person() as person:
        await person.join(livekit_server.url, member_token(livekit_server, truth.name, "alice"))
        await caller.request_agent(truth.name)
        await expect(dashboard.state(truth.name)).to_have_text("Active", timeout=_LIFE_MS)
        end = dashboard.row(truth.name).get_by_role("button", name="End the agent")

        await end.click()
        await expect(dashboard.question).to_contain_text("1 person is in the room now")
        await expect(dashboard.question.get_by_role("button", name="Cancel")).to_be_focused()
        await dashboard.page.keyboard.press("Enter")
        await expect(dashboard.question).to_be_hidden()
        assert await truth.has_one_agent()

        await end.click()
        await dashboard.question.get_by_role("button", name="End agent").click()
        await expect(dashboard.page.locator("#toast")).to_have_text(f"{truth.name}: The agent was ended")
        await expect(dashboard.row(truth.name)).to_contain_text("requested", timeout=_LIFE_MS)
        # LiveKit may list an agent that has left (docs/decisions.md): what the person sees is the truth.
        await person.wait_for_agents(0, timeout_s=10)
        assert await truth.dispatches() == []


async def test_a_wrong_key_is_rejected_and_the_right_one_is_not_stored(dashboard: Dashboard) -> None:
    await dashboard.open()
    await dashboard.sign_in("a-key-that-is-none-of-ours")
    await expect(dashboard.problem).to_have_text("Unknown API key.")
    await expect(dashboard.rows).to_have_count(0)

    await dashboard.sign_in()
    await expect(dashboard.connection).to_have_text("Live")
    assert await dashboard.key.input_value() == ""
    kept = "document.cookie + location.href + JSON.stringify([localStorage, sessionStorage])"
    assert API_KEY not in await dashboard.page.evaluate(kept)
    assert await dashboard.page.evaluate("document.cookie") == ""
    (cookie,) = await dashboard.page.context.cookies(dashboard.url)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/dashboard")

    await dashboard.page.get_by_role("button", name="Sign out").click()
    await expect(dashboard.key).to_be_focused()
    await dashboard.page.reload()
    await expect(dashboard.key).to_be_visible()


@pytest.mark.parametrize("settings", [{"ALERT_MAX_AGENTS": "1"}])
async def test_alerts_and_charts_show_the_services_data(
    dashboard: Dashboard, caller: Caller, truth: RoomTruth
) -> None:
    await dashboard.open_signed_in()
    await expect(dashboard.alerts).to_be_hidden()
    rooms = (truth.name, f"{truth.name}-2")
    for room in (*rooms, *rooms):
        await caller.request_agent(room)

    alert = dashboard.alerts.get_by_role("alert")
    await expect(alert).to_contain_text("There are 2 agents; the limit is 1.", timeout=_LIFE_MS)
    await expect(alert).to_contain_text("raise ALERT_MAX_AGENTS")
    await expect(alert.locator("code")).to_have_text("too_many_agents")
    for name in ("Agents dispatched in the last hour: 2 agents", "Reuse rate in the last hour: 50 %"):
        await expect(dashboard.page.get_by_role("img", name=name)).to_be_visible(timeout=_LIFE_MS)
    assert await violations(dashboard.page) == []

    for room in rooms:
        await caller.end_agent(room)
    # More than two where a busy worker took no job within 6 s, and the service dispatched again.
    ended = await caller.agents(state="ended")
    assert len(ended) >= len(rooms)
    await expect(dashboard.chart("Cleanups").locator("b")).to_have_text(
        f"{len(ended)} done", timeout=_LIFE_MS
    )


async def test_a_message_that_was_long_on_its_way_sets_no_countdown_back(dashboard: Dashboard) -> None:
    await dashboard.page.clock.install()
    await dashboard.page.clock.pause_at(time.time())
    await dashboard.open_on([])
    at = int(time.time() * 1_000)
    await dashboard.say("changes", at=at, agents=[agent(1, state="idle", ttlExpiresAt=at + 600_000)])
    ttl = dashboard.ttl("room-00001")
    await dashboard.beat(at=at + 10_000)
    await expect(ttl).to_have_text("9:50")
    await dashboard.beat(at=at + 5_000)
    await expect(ttl).to_have_text("9:50")
    await dashboard.say("changes", at=at + 6_000, agents=[])
    await expect(ttl).to_have_text("9:50")
    await dashboard.beat(at=at + 20_000)
    await expect(ttl).to_have_text("9:40")


async def test_an_alert_is_shown_until_it_is_resolved(dashboard: Dashboard) -> None:
    await dashboard.open_on([])
    since = int(time.time() * 1_000) - 120_000
    alert = {"name": "no_worker", "summary": "People wait.", "advice": "Start a worker.", "since": since}
    await dashboard.beat(alert)
    await expect(dashboard.alerts.get_by_role("heading")).to_have_text("People wait.")
    await expect(dashboard.alerts).to_contain_text("no_worker raised 2 min ago")
    await dashboard.beat()
    await expect(dashboard.alerts).to_be_hidden()


async def test_each_ttl_is_shown_with_what_it_costs_and_saves(dashboard: Dashboard) -> None:
    await dashboard.open_on([])
    learned = {"agent": "support", "ttlS": 45, "source": "learned", "kept": 19, "lost": 1, "idleS": 5_400}
    default = {"agent": "caller", "ttlS": 300, "source": "default", "kept": 0, "lost": 0, "idleS": 0}
    await dashboard.show_ttls(learned, default)
    cells = dashboard.page.get_by_role("table", name="Time to live").get_by_role("cell")
    await expect(cells).to_have_text(
        [
            "support",
            "0:45learned",
            "95 %19 of 20",
            "90 min",
            "caller",
            "5:00default",
            "\N{EN DASH}",
            "0 min",
        ]
    )


async def test_each_worker_that_reports_itself_is_shown(dashboard: Dashboard) -> None:
    await dashboard.open_on([])
    table = dashboard.page.get_by_role("table", name="Workers")
    await expect(table).to_be_hidden()
    worker = {"id": "0123456789abcdef", "agents": ["support"], "deployment": "v1", "version": "1.4"}
    sized = worker | {"state": "full", "active": 4, "slots": 4, "load": 0.5}
    unsized = worker | {"deployment": "", "state": "accepting", "active": 1, "slots": None, "load": 0}
    await dashboard.show_workers(sized, unsized)
    await expect(table.get_by_role("cell")).to_have_text(
        [
            "01234567support",
            "v11.4",
            "full",
            "4 of 4",
            "0.50",
            "01234567support",
            "\N{EN DASH}1.4",
            "accepting",
            "1",
            "0.00",
        ]
    )
    await dashboard.show_workers()
    await expect(table).to_be_hidden()


async def test_the_pool_of_each_agent_that_has_warm_ones_is_shown(dashboard: Dashboard) -> None:
    await dashboard.open_on([])
    table = dashboard.page.get_by_role("table", name="Warm agents")
    await expect(table).to_be_hidden()
    await dashboard.show_warm({"agent": "support", "wanted": 3, "waiting": 1, "coming": 2, "claimed": 40})
    await expect(table.get_by_role("cell")).to_have_text(["support", "1 of 3", "2", "40"])
    await dashboard.show_warm()
    await expect(table).to_be_hidden()


async def test_each_endpoint_of_events_is_shown_with_how_it_fares(dashboard: Dashboard) -> None:
    await dashboard.open_on([])
    table = dashboard.page.get_by_role("table", name="Event endpoints")
    await expect(table).to_be_hidden()
    works: dict[str, Any] = {
        "name": "https://crm.example.com/hook",
        "state": "delivering",
        "done": 41,
        "waiting": 0,
        "waitingSince": None,
        "failingSince": None,
        "lastError": None,
        "nextTryAt": None,
        "givenUp": 0,
    }
    fails = works | {
        "name": "https://audit.example.com/<b>",
        "state": "failing",
        "done": 12,
        "waiting": 29,
        "waitingSince": 1_800_000_000_000,
        "failingSince": 1_800_000_000_000,
        "lastError": "HTTP 503",
        "nextTryAt": 1_800_000_060_000,
        "givenUp": 3,
    }
    await dashboard.show_endpoints(works, fails)
    await expect(table.get_by_role("cell")).to_have_text(
        [
            "https://crm.example.com/hook",
            "Delivering",
            "41",
            "0",
            "\N{EN DASH}",
            "https://audit.example.com/<b>",
            re.compile(r"FailingHTTP 503 since .*2027"),
            "123 given up",
            re.compile(r"29since .*2027"),
            re.compile(r"\d:01:00"),
        ]
    )
    await dashboard.show_endpoints()
    await expect(table).to_be_hidden()


async def test_the_charts_have_one_bar_for_each_minute(dashboard: Dashboard) -> None:
    hour = {59: {"created": 1}, 30: {"created": 4, "cleanups": 3, "cleanupFailures": 1}, 90: {"created": 7}}
    await dashboard.open_on([], hour)
    dispatched, cleanups = dashboard.chart("Agents dispatched"), dashboard.chart("Cleanups")
    await expect(dispatched.locator("b")).to_have_text("5 agents")
    await expect(dispatched.locator(".readout")).to_have_text("peak 4 a minute")
    assert await _heights(dispatched, "value") == {0: 10, 29: 40}
    await expect(cleanups.locator("b")).to_have_text("3 done, 1 failed")
    assert await _heights(cleanups, "value") == {29: 40}
    assert await _heights(cleanups, "worse") == {29: 10}
    colours = (
        "(figure) => new Set([...figure.querySelectorAll('rect')].map((r) => getComputedStyle(r).fill)).size"
    )
    assert await cleanups.evaluate(colours) == 2

    drawing = cleanups.locator("svg")
    box = await drawing.bounding_box()
    assert box
    await drawing.hover(position={"x": box["width"] * 29.5 / 60, "y": box["height"] / 2})
    await expect(cleanups.locator(".readout")).to_have_text(re.compile(r": 4, 1 failed$"))


async def test_what_agents_cost_is_drawn_by_day_and_written_out(dashboard: Dashboard) -> None:
    days = [
        {"day": f"2027-01-{number:02}", "talkedS": 0, "idleS": 0, "unvisitedS": 0} for number in range(1, 31)
    ]
    days[0] |= {"talkedS": 3_600, "idleS": 1_800, "unvisitedS": 1_800}
    days[29] |= {"talkedS": 5_400, "idleS": 1_800}
    await dashboard.open_on([], days=days)

    name = "What agents cost in the last 30 days: talked 2.5 h, idle 1 h, unvisited 30 min"
    drawing = dashboard.page.get_by_role("img", name=name)
    await expect(drawing).to_be_visible()
    await expect(dashboard.page.locator(".legend li")).to_have_text(
        ["Talked 2.5 h", "Idle 1 h", "Unvisited 30 min"]
    )
    figure = dashboard.page.locator("#usage figure")
    assert await _heights(figure, "spent-talked") == {0: 20, 29: 30}
    assert await _heights(figure, "spent-idle") == {0: 10, 29: 10}
    assert await _heights(figure, "spent-unvisited") == {0: 10}
    fills = await figure.evaluate(
        "figure => [...figure.querySelectorAll('rect')].slice(0, 3).map((r) => getComputedStyle(r).fill)"
    )
    assert len(set(fills)) == 3

    # By keyboard, and without colours: the days with any usage, the newest first.
    await figure.locator("summary").focus()
    await dashboard.page.keyboard.press("Enter")
    await expect(figure.locator("ol li")).to_have_text(
        [
            re.compile(r"30.*: talked 1.5 h, idle 30 min, unvisited 0 s"),
            re.compile(r"1.*: talked 1 h, idle 30 min, unvisited 30 min"),
        ]
    )
    assert await violations(dashboard.page) == []


async def test_ten_thousand_agents_do_not_freeze_the_page(dashboard: Dashboard) -> None:
    await dashboard.open_on([agent(number) for number in range(10_000)])
    shown = dashboard.page.locator("#shown")
    await expect(shown).to_have_text("showing 200 of 10,000")
    await expect(dashboard.rows).to_have_count(200)
    await dashboard.page.get_by_label("Search by room").fill("room-0777")
    await expect(shown).to_have_text("10")
    await expect(dashboard.row("room-07770")).to_be_visible()
    idle = agent(7_770, state="idle", version=2, people=0)
    await dashboard.say("changes", at=idle["createdAt"], agents=[idle])
    await expect(dashboard.state("room-07770")).to_have_text("Idle")
    await dashboard.page.get_by_label("Show").select_option("Idle")
    await expect(dashboard.rows).to_have_count(1)


async def test_hostile_room_names_are_shown_as_text(dashboard: Dashboard) -> None:
    agents = [agent(number, room=name, agent=name) for number, name in enumerate(_HOSTILE_NAMES)]
    await dashboard.open_on(agents)
    for name in _HOSTILE_NAMES:
        await expect(dashboard.row(name)).to_be_visible()
    await dashboard.rows.first.get_by_role("button", name="End the agent").click()
    await expect(dashboard.question).to_be_visible()
    assert await dashboard.page.locator("main img, main script, #rows svg, dialog[open] img").count() == 0


async def test_the_page_fits_a_phone_and_its_colour_scheme(dashboard: Dashboard) -> None:
    await dashboard.page.set_viewport_size(_PHONE)
    await dashboard.open_on([agent(1, room=_LONG_NAME), agent(2, state="unavailable", attempt=3)])
    await expect(dashboard.rows).to_have_count(2)
    assert await dashboard.page.evaluate("document.documentElement.scrollWidth") <= _PHONE["width"]
    await dashboard.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    assert await _brightness(dashboard.page) > 192
    assert await violations(dashboard.page) == []
    await dashboard.page.emulate_media(color_scheme="dark")
    assert await _brightness(dashboard.page) < 64
    assert await violations(dashboard.page) == []

    await dashboard.row(_LONG_NAME).get_by_role("button", name="End the agent").click()
    assert await violations(dashboard.page) == []
    box = await dashboard.question.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= _PHONE["width"]


async def test_without_api_keys_the_page_explains_how_to_set_one(dashboard: Dashboard) -> None:
    await dashboard.page.route(
        "**/dashboard/session", lambda route: route.fulfill(json={"configured": False, "signedIn": False})
    )
    await dashboard.open()
    await expect(dashboard.page.get_by_text("API_KEYS=$(openssl rand -hex 24)")).to_be_visible()
    await expect(dashboard.key).to_be_hidden()


async def _heights(chart: Locator, kind: str) -> dict[int, float]:
    """The heights of the visible bars of a chart, by minute from the left."""
    script = "(bars) => bars.map((bar) => Number(bar.getAttribute('height')))"
    heights: list[float] = await chart.locator(f"rect.{kind}").evaluate_all(script)
    return {slot: height for slot, height in enumerate(heights) if height}


async def _brightness(page: Page) -> int:
    """The brightness of the page's background, from 0 to 255."""
    colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in re.findall(r"\d+", colour)[:3])
