"""Screenshots of the demo page and the dashboard, in docs/images: `python -m devstack.screenshots`.

They show the running pages: the script starts the stack and leads a real browser through them.
"""

import asyncio
import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, BrowserContext, ViewportSize, async_playwright

from devstack.dashboard_tour import open_dashboard, open_time_line, peopled
from devstack.demo_assets import ensure_demo_assets
from devstack.demo_tour import tour
from devstack.stack import Stack, StackOptions

_IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
_DESKTOP: ViewportSize = {"width": 1060, "height": 700}
_PHONE: ViewportSize = {"width": 390, "height": 780}
_DASHBOARD: ViewportSize = {"width": 1200, "height": 1030}
_DASHBOARD_SHORT: ViewportSize = {"width": 1200, "height": 800}
_DASHBOARD_PHONE: ViewportSize = {"width": 360, "height": 740}

Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Look:
    name: str
    viewport: ViewportSize
    scheme: Scheme
    #: The states of the tour to photograph with this look.
    states: tuple[str, ...]


_LOOKS = (
    Look(
        "light",
        _DESKTOP,
        "light",
        (
            *("idle", "asking", "connecting", "talking", "left"),
            *("waiting", "no-agent", "reconnecting", "failed"),
        ),
    ),
    Look("dark", _DESKTOP, "dark", ("talking",)),
    Look("phone", _PHONE, "light", ("talking", "no-microphone")),
)


_DASHBOARD_PICTURES = ("dashboard-light.png", "dashboard-phone-dark.png", "dashboard-timeline-dark.png")

#: Every picture that this script makes.
MADE = {f"demo-{state}-{look.name}.png" for look in _LOOKS for state in look.states}
MADE |= set(_DASHBOARD_PICTURES)


async def _context(browser: Browser, viewport: ViewportSize, scheme: Scheme) -> BrowserContext:
    return await browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")


async def _photograph_dashboard(browser: Browser, stack: Stack) -> None:
    base_url = stack.service.base_url
    wide, phone, time_line = (_IMAGES / name for name in _DASHBOARD_PICTURES)
    async with peopled(stack.server, base_url):
        context = await _context(browser, _DASHBOARD, "light")
        page = await context.new_page()
        await open_dashboard(page, base_url)
        await page.screenshot(path=wide)
        await page.emulate_media(color_scheme="dark")
        await page.set_viewport_size(_DASHBOARD_PHONE)
        await page.screenshot(path=phone)
        await page.set_viewport_size(_DASHBOARD_SHORT)
        await open_time_line(page)
        await page.screenshot(path=time_line)
        await context.close()


async def _photograph(browser: Browser, base_url: str, look: Look) -> None:
    context = await _context(browser, look.viewport, look.scheme)
    await context.grant_permissions(["microphone"])
    page = await context.new_page()
    async for state in tour(page, base_url, f"support-{look.name}"):
        if state in look.states:
            await page.screenshot(path=_IMAGES / f"demo-{state}-{look.name}.png")
    await context.close()


async def _photograph_all(stack: Stack) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on PATH; get it with: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--allow-loopback-in-peer-connection",
                "--use-fake-device-for-media-stream",
            ],
        )
        # The dashboard first: later the demo's rooms exist as well.
        await _photograph_dashboard(browser, stack)
        for look in _LOOKS:
            await _photograph(browser, stack.service.base_url, look)
        await browser.close()


def main() -> None:
    ensure_demo_assets()
    _IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(port=0, livekit_port=0, agent_name="concierge", ttl_s=300, folder=Path(folder))
        stack = Stack(options, print, undisturbed=contextlib.nullcontext)
        try:
            stack.start()
            asyncio.run(_photograph_all(stack))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
