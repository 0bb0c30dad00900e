"""The dashboard as an operator uses it, and a fake stream for it."""

import json
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from playwright.async_api import Locator, Page, expect

from devstack.service import API_KEY, Service
from devstack.truth import eventually

_FAKE_STREAM = """
window.EventSource = class extends EventTarget {
  constructor() {
    super();
    window.stream = this;
    // Repeats itself: the page treats a silent stream as lost, and a slow machine would cause that.
    this.timer = setInterval(() => this.last && this.say("changes", this.last), 1000);
  }
  close() { clearInterval(this.timer); }
  say(name, message) {
    this.last = JSON.stringify({ at: JSON.parse(message).at, agents: [] });
    this.dispatchEvent(new MessageEvent(name, { data: message }));
  }
};
"""
_RECORD_TTLS = """() => {
  window.ttls = {};
  const look = () => {
    for (const row of document.querySelectorAll("#rows tr")) {
      const room = row.querySelector("button")?.textContent;
      const shown = row.querySelector(".left")?.textContent;
      const all = (window.ttls[room] ??= []);
      if (shown && shown !== all.at(-1)) all.push(shown);
    }
  };
  look();
  new MutationObserver(look).observe(document.querySelector("#rows"), {
    childList: true, subtree: true, characterData: true,
  });
}"""
_MINUTE = {
    "created": 0,
    "fresh": 0,
    "reused": 0,
    "replaced": 0,
    "cleanups": 0,
    "cleanupFailures": 0,
    "drift": 0,
    "logLines": 0,
    "logDropped": 0,
}


class Dashboard:
    def __init__(self, page: Page, service: Service) -> None:
        self.page = page
        self._beat: dict[str, Any] = {}
        self.url = f"{service.base_url}/dashboard"
        self.key = page.get_by_label("API key")
        self.problem = page.locator("#sign-in-problem")
        self.connection = page.locator("#connection")
        self.question = page.get_by_role("dialog", name="End “")
        self.alerts = page.get_by_role("region", name="Alerts")
        self.rows = page.locator("#rows tr")

    async def open(self) -> None:
        await self.page.goto(self.url)

    async def sign_in(self, api_key: str = API_KEY) -> None:
        await self.key.fill(api_key)
        await self.page.keyboard.press("Enter")

    async def open_signed_in(self) -> None:
        await self.open()
        await self.sign_in()
        await expect(self.connection).to_have_text("Live")

    def row(self, room: str) -> Locator:
        return self.rows.filter(has=self.page.get_by_role("button", name=room, exact=True))

    def state(self, room: str) -> Locator:
        return self.row(room).locator(".badge")

    def ttl(self, room: str) -> Locator:
        return self.row(room).locator(".left")

    async def record_ttls(self) -> None:
        """Record every text of a row's TTL from now on; the tests' own looks come once a second or later."""
        await self.page.evaluate(_RECORD_TTLS)

    async def recorded_ttls(self, room: str) -> list[str]:
        """What the row has shown, without repetitions."""
        shown: list[str] = await self.page.evaluate("room => window.ttls[room] ?? []", room)
        return shown

    def chart(self, title: str) -> Locator:
        return self.page.locator("figure", has_text=title)

    async def open_on(
        self,
        agents: list[dict[str, Any]],
        minutes: Mapping[int, dict[str, int]] = MappingProxyType({}),
        days: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Open the page signed in, without a service: these agents, figures by minutes ago, and days."""
        await self.page.add_init_script(_FAKE_STREAM)
        await self.page.route(
            "**/dashboard/session", lambda route: route.fulfill(json={"configured": True, "signedIn": True})
        )
        await self.page.route("**/dashboard/usage", lambda route: route.fulfill(json={"days": [*days]}))
        await self.open()
        # Not wait_for_function: the page's policy forbids its polling inside the page.
        await eventually(self._has_stream, "the page has opened its stream")
        at = _now_ms()
        minute = _MINUTE | {"at": at - at % 60_000}
        hour = [
            minute | figures | {"at": minute["at"] - ago * 60_000}
            for ago, figures in sorted(minutes.items(), reverse=True)
        ]
        await self.say("snapshot", at=at, agents=agents, minutes=hour, maxLive=10_000, maxEnded=50)
        self._beat = {
            "counts": {"active": len(agents)},
            "minute": minute,
            "ttls": [],
            "workers": [],
            "warm": [],
            "endpoints": [],
            "problem": None,
        }
        await self.beat()

    async def _has_stream(self) -> bool:
        has_stream: bool = await self.page.evaluate("window.stream !== undefined")
        return has_stream

    async def beat(self, *alerts: dict[str, Any], at: int | None = None) -> None:
        """Send the beat of the service, with these alerts, as of `at`: now, unless a test says otherwise."""
        await self.say("beat", at=_now_ms() if at is None else at, alerts=alerts, **self._beat)

    async def show_ttls(self, *ttls: dict[str, Any]) -> None:
        """Send a beat with these TTLs."""
        self._beat["ttls"] = ttls
        await self.beat()

    async def show_workers(self, *workers: dict[str, Any]) -> None:
        """Send a beat with these workers."""
        self._beat["workers"] = workers
        await self.beat()

    async def show_warm(self, *pools: dict[str, Any]) -> None:
        """Send a beat with these pools of warm agents."""
        self._beat["warm"] = pools
        await self.beat()

    async def show_endpoints(self, *endpoints: dict[str, Any]) -> None:
        """Send a beat with these endpoints of events."""
        self._beat["endpoints"] = endpoints
        await self.beat()

    async def say(self, name: str, **message: Any) -> None:
        await self.page.evaluate(
            "([name, message]) => window.stream.say(name, message)", [name, json.dumps(message)]
        )


def agent(number: int, **fields: Any) -> dict[str, Any]:
    """An active agent as in the stream."""
    at = _now_ms()
    usual: dict[str, Any] = {
        "id": f"row-{number}",
        "dispatchId": f"AD_{number:06d}",
        "room": f"room-{number:05d}",
        "agent": "agent",
        "state": "active",
        "version": 1,
        "people": 1,
        "agentIdentity": "agent-AJ_1",
        "createdAt": at,
        "lastActivityAt": at,
        "ttlExpiresAt": None,
        "attempt": 1,
        "cleanupFailures": 0,
        "endReason": None,
        "endedAt": None,
    }
    return usual | fields


def _now_ms() -> int:
    return int(time.time() * 1_000)
