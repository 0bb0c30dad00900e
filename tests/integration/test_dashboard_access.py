"""Access control of the dashboard."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest

from app.control.sweeper import RETENTION_US
from app.lifecycle import SECOND_US
from app.web.dashboard import routes
from app.web.dashboard.access import SIGN_INS_PER_MINUTE
from app.web.dashboard.sessions import LIFETIME_S
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.dashboard_page import Page
from integration.harness import API_KEY, ON_BOTH, App, World, member_token
from integration.sockets import connected

_OTHER_KEY = "another-api-key-of-ours"


@pytest.fixture
async def page(app: App) -> AsyncIterator[Page]:
    async with Page(app) as page:
        yield page


async def test_without_a_sign_in_only_the_empty_page_is_served(page: Page) -> None:
    assert (await page.call("GET", "")).status == 200
    assert (await page.call("GET", "/session")).body == {"configured": True, "signedIn": False}
    for method, path in [
        ("GET", "/stream"),
        ("GET", "/agents/AD_1"),
        ("GET", "/usage"),
        ("POST", "/agents/end"),
    ]:
        answer = await page.call(method, path, {"roomName": "room", "agentName": "agent"})
        assert (answer.status, answer.body["code"]) == (401, "unauthenticated"), path


async def test_a_key_signs_in_and_a_sign_out_ends_the_session(page: Page) -> None:
    assert (await page.sign_in()).status == 200
    assert (await page.call("GET", "/session")).body["signedIn"] is True
    assert (await page.call("DELETE", "/session")).status == 200
    assert (await page.call("GET", "/session")).body["signedIn"] is False
    assert (await page.call("GET", "/agents/AD_1")).status == 401


@pytest.mark.parametrize("key", ["wrong-key-of-some-length", "", member_token("room")])
async def test_any_other_key_is_rejected(page: Page, key: str) -> None:
    answer = await page.sign_in(key)
    assert (answer.status, answer.body["code"]) == (401, "unauthenticated")
    assert "Set-Cookie" not in answer.headers
    assert not key or key not in str(answer.body)


@pytest.mark.parametrize(
    ("body", "status"), [({}, 422), ({"apiKey": 1}, 422), ({"apiKey": API_KEY, "x": 1}, 422), ([], 422)]
)
async def test_a_malformed_sign_in_is_rejected(page: Page, body: Any, status: int) -> None:
    assert (await page.call("POST", "/session", body)).status == status


async def test_a_sign_in_is_logged_without_the_key(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="app.web.dashboard.access"):
        await page.sign_in("wrong-key-of-some-length")
        await page.sign_in()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert API_KEY not in caplog.text
    assert "wrong-key" not in caplog.text


async def test_a_body_over_the_limit_is_413(page: Page) -> None:
    assert (await page.sign_in("k" * 5_000)).status == 413
    await page.sign_in()
    assert (await page.end("r" * 5_000)).status == 413


async def test_the_cookie_is_limited_to_the_dashboard(page: Page) -> None:
    cookie = (await page.sign_in()).headers["Set-Cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes >= {"httponly", "samesite=strict", "path=/dashboard", f"max-age={LIFETIME_S}"}
    assert "secure" not in attributes
    assert API_KEY not in cookie


@pytest.mark.parametrize(
    ("settings", "headers", "secure"),
    [
        ({"public_url": "https://agents.example.com"}, {}, True),
        ({"public_url": "http://agents.example.com"}, {}, False),
        ({"trusted_proxies": (ip_network("127.0.0.0/8"),)}, {"X-Forwarded-Proto": "https"}, True),
        ({"trusted_proxies": (ip_network("127.0.0.0/8"),)}, {"X-Forwarded-Proto": "http"}, False),
        ({"trusted_proxies": (ip_network("10.0.0.0/8"),)}, {"X-Forwarded-Proto": "https"}, False),
        ({}, {"X-Forwarded-Proto": "https"}, False),
        ({}, {"Origin": "https://agents.example.com"}, True),
        ({}, {"Origin": "http://agents.example.com"}, False),
    ],
)
async def test_the_cookie_is_secure_if_the_browser_uses_https(
    start_app: StartApp, settings: dict[str, Any], headers: dict[str, str], *, secure: bool
) -> None:
    async with Page(await start_app(**settings)) as page:
        sent = {"Sec-Fetch-Site": "same-origin", **headers}
        answer = await page.call("POST", "/session", {"apiKey": API_KEY}, headers=sent)
        name, _, rest = answer.headers["Set-Cookie"].partition("=")
        attributes = {part.strip().lower() for part in rest.split(";")[1:]}
        assert ("secure" in attributes) is secure
        assert name == ("__Host-lifecycle_dashboard" if secure else "lifecycle_dashboard")
        assert ("path=/" if secure else "path=/dashboard") in attributes
        assert (await page.call("GET", "/session", headers=sent)).body["signedIn"] is True


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OWN"}, False),
        ({"Origin": "OWN"}, True),
        ({"Origin": "http://agents.example.com"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
async def test_only_our_own_page_changes_anything(
    start_app: StartApp, headers: dict[str, str], *, allowed: bool
) -> None:
    async with Page(await start_app(public_url="http://agents.example.com")) as page:
        sent = {name: page.origin if value == "OWN" else value for name, value in headers.items()}
        await page.sign_in()
        answers = [
            await page.call("POST", "/session", {"apiKey": API_KEY}, headers=sent),
            await page.call("POST", "/agents/end", {"roomName": "room", "agentName": "agent"}, headers=sent),
            await page.call("DELETE", "/session", headers=sent),
        ]
        assert {answer.status for answer in answers} == {200 if allowed else 403}


async def test_another_sites_page_cannot_end_an_agent(page: Page, app: App, server: FakeServer) -> None:
    server.start_worker("agent")
    await app.dispatch()
    await page.sign_in()
    body = {"roomName": "room", "agentName": "agent"}
    answer = await page.call("POST", "/agents/end", body, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert await app.state() == "starting"


async def test_wrong_keys_are_limited_and_lock_nobody_out(page: Page, world: World) -> None:
    for _ in range(SIGN_INS_PER_MINUTE):
        assert (await page.sign_in("wrong-key-of-some-length")).status == 401
    limited = await page.sign_in("wrong-key-of-some-length")
    assert (limited.status, limited.body["code"]) == (429, "rate_limited")
    for _ in range(SIGN_INS_PER_MINUTE * 2):
        assert (await page.sign_in()).status == 200
    world.clock.advance(int(limited.headers["Retry-After"]))
    assert (await page.sign_in("wrong-key-of-some-length")).status == 401


async def test_right_keys_are_not_counted(page: Page) -> None:
    for _ in range(SIGN_INS_PER_MINUTE * 2):
        assert (await page.sign_in()).status == 200
    for _ in range(SIGN_INS_PER_MINUTE):
        assert (await page.sign_in("wrong-key-of-some-length")).status == 401


async def test_beyond_the_limit_no_body_is_awaited(page: Page, app: App) -> None:
    for _ in range(SIGN_INS_PER_MINUTE):
        await page.sign_in("wrong-key-of-some-length")
    head = b"POST /dashboard/session HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n"
    async with connected(app.port) as slow:
        slow.send(head + b"Content-Length: 9\r\n\r\n")
        assert (await slow.answer()).startswith(b"HTTP/1.1 429")
        assert await slow.end() == b""


@ON_BOTH
async def test_a_signed_out_cookie_is_good_for_nothing(
    page: Page, app: App, world: World, start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have copied it. Another replica, and the service after a restart, know of it too."""
    monkeypatch.setattr(routes, "SESSION_CHECK_S", 0.1)
    await page.sign_in()
    async with Page(app) as thief:
        thief.copy_cookies_of(page)
        async with thief.stream() as stream:
            await stream.next("snapshot")
            assert (await page.call("DELETE", "/session")).status == 200
            await stream.end()
        assert (await thief.call("GET", "/session")).body["signedIn"] is False
        assert (await thief.call("GET", "/stream")).status == 401
        await page.sign_in()
        assert (await thief.end("room")).status == 401
        await app.stop()
        again = await start_app()
        async with Page(again) as late:
            late.copy_cookies_of(thief)
            assert (await late.call("GET", "/session")).body["signedIn"] is False
        assert len(world.rows("ended_sessions")) == 1
        await again.pass_time(LIFETIME_S + RETENTION_US / SECOND_US + 1)
        assert world.rows("ended_sessions") == []


async def test_while_the_database_cannot_be_asked_no_session_is_taken_as_good(
    page: Page, world: World
) -> None:
    await page.sign_in()
    world.database_faults.down = True
    assert (await page.call("GET", "/agents/AD_1")).status == 503
    assert (await page.call("DELETE", "/session")).status == 503
    world.database_faults.down = False
    assert (await page.call("GET", "/session")).body["signedIn"] is True


async def test_an_open_page_outlives_an_outage_of_the_database(
    page: Page, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SESSION_CHECK_S", 0.05)
    await page.sign_in()
    async with page.stream() as stream:
        await stream.next("snapshot")
        world.database_faults.down = True
        # Each beat comes seconds after the one before, and so many checks after.
        for _ in range(2):
            await stream.next("beat")
        world.database_faults.down = False
        assert (await page.call("DELETE", "/session")).status == 200
        await stream.end()


async def test_a_session_survives_a_restart(page: Page, app: App, start_app: StartApp) -> None:
    await page.sign_in()
    await app.stop()
    again = await start_app()
    async with Page(again) as returned:
        returned.copy_cookies_of(page)
        assert (await returned.call("GET", "/session")).body["signedIn"] is True


async def test_a_session_ends_when_its_key_is_removed(app: App, start_app: StartApp) -> None:
    async with Page(app) as page:
        await page.sign_in()
        await app.stop()
        rotated = await start_app(api_keys=(_OTHER_KEY,))
        async with Page(rotated) as returned:
            returned.copy_cookies_of(page)
            assert (await returned.call("GET", "/session")).body["signedIn"] is False
            assert (await returned.call("GET", "/stream")).status == 401


async def test_a_session_expires_while_a_page_is_open(page: Page, world: World) -> None:
    await page.sign_in()
    world.clock.advance(LIFETIME_S - 1)
    async with page.stream() as stream:
        await stream.next("snapshot")
        await stream.end()
    world.clock.advance(1)
    assert (await page.call("GET", "/stream")).status == 401


async def test_without_api_keys_every_sign_in_is_rejected(start_app: StartApp) -> None:
    async with Page(await start_app(api_keys=())) as page:
        assert (await page.call("GET", "/session")).body == {"configured": False, "signedIn": False}
        assert (await page.sign_in()).status == 401
        assert (await page.sign_in("")).status == 401


async def test_the_api_rejects_the_cookie_and_the_dashboard_the_key(page: Page, app: App) -> None:
    cookie = (await page.sign_in()).headers["Set-Cookie"].partition(";")[0]
    assert (await app.call("GET", "/api/livekit/agents", auth=None, headers={"Cookie": cookie})).status == 401
    assert (await app.call("GET", "/dashboard/agents/AD_1", auth=API_KEY)).status == 401


async def test_the_page_has_a_strict_content_security_policy(page: Page) -> None:
    for path in ("", "/", "/static/dashboard.js", "/static/dashboard.css"):
        headers = (await page.call("GET", path)).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy), path
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["routes.py", "..%2froutes.py", "index.html", "missing.js", "%00"])
async def test_other_files_are_404(page: Page, name: str) -> None:
    assert (await page.call("GET", f"/static/{name}")).status == 404


async def test_an_unchanged_file_is_not_sent_again(page: Page) -> None:
    first = await page.call("GET", "/static/dashboard.css")
    again = await page.call("GET", "/static/dashboard.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
