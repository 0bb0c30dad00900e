"""The log of refused requests: who, in which terms, and how often."""

import logging
from ipaddress import ip_network
from typing import Any

import pytest

from app.web.refusals import LINES_PER_MINUTE
from integration.conftest import StartApp
from integration.dashboard_page import Page
from integration.harness import API_KEY, WEBHOOK, App, World, member_token

AGENTS = "/api/livekit/agents"


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.web")


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("action", "route", "code", "address", "api_key")
    return [
        {name: vars(record)[name] for name in names if name in vars(record)}
        for record in caplog.records
        if record.getMessage() == "Request refused"
    ]


async def test_a_stranger_is_logged_with_the_address(app: App, caplog: pytest.LogCaptureFixture) -> None:
    await app.call("GET", AGENTS, auth="a-wrong-guess")
    await app.call("POST", WEBHOOK, auth="forged", data=b"{}")

    common = {"action": "refused", "code": "unauthenticated", "address": "127.0.0.1"}
    assert refusals(caplog) == [common | {"route": AGENTS}, common | {"route": WEBHOOK}]
    assert "a-wrong-guess" not in caplog.text
    assert "Request answered" not in caplog.text


async def test_behind_a_trusted_proxy_it_is_the_clients_address(
    start_app: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(trusted_proxies=(ip_network("127.0.0.0/8"),))
    await app.call("GET", AGENTS, auth="a-wrong-guess", headers={"X-Forwarded-For": "192.0.2.7"})
    assert [line["address"] for line in refusals(caplog)] == ["192.0.2.7"]


async def test_an_api_key_is_logged_by_its_number(
    start_app: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(api_keys=("another-key-altogether", API_KEY), rate_limit_per_minute=1)
    for _ in range(11):
        await app.call("GET", AGENTS)

    assert [(line["code"], line["api_key"]) for line in refusals(caplog)] == [("rate_limited", 2)]
    assert API_KEY not in caplog.text


async def test_a_member_of_another_room_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    await app.call("GET", AGENTS, auth=member_token("room"))
    assert [line["code"] for line in refusals(caplog)] == ["forbidden"]


async def test_a_sign_in_that_is_refused_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with Page(app) as page:
        await page.sign_in("wrong-key-of-some-length")
    assert [line["route"] for line in refusals(caplog)] == ["/dashboard/session"]


async def test_one_caller_gets_only_so_many_lines_a_minute(
    start_app: StartApp, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(trusted_proxies=(ip_network("127.0.0.0/8"),))
    for _ in range(LINES_PER_MINUTE * 3):
        await app.call("GET", AGENTS, auth="a-wrong-guess")
    assert len(refusals(caplog)) == LINES_PER_MINUTE
    await app.call("GET", AGENTS, auth="a-wrong-guess", headers={"X-Forwarded-For": "192.0.2.7"})
    assert len(refusals(caplog)) == LINES_PER_MINUTE + 1
    world.clock.advance(61)
    await app.call("GET", AGENTS, auth="a-wrong-guess")
    assert len(refusals(caplog)) == LINES_PER_MINUTE + 2


async def test_one_subscriber_of_ipv6_is_one_caller(
    start_app: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_app(trusted_proxies=(ip_network("127.0.0.0/8"),))
    for number in range(LINES_PER_MINUTE * 2):
        headers = {"X-Forwarded-For": f"2001:db8::{number:x}"}
        await app.call("GET", AGENTS, auth="a-wrong-guess", headers=headers)

    assert len(refusals(caplog)) == LINES_PER_MINUTE
    assert refusals(caplog)[0]["address"] == "2001:db8::"
