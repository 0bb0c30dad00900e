"""The pictures of the demo page in docs/images: `python -m devstack.screenshots` takes them anew.

They are of the real thing: the stack is started, and a real browser is led through the page.
"""

import asyncio
import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, ViewportSize, async_playwright

from devstack.demo_assets import ensure_demo_assets
from devstack.demo_tour import tour
from devstack.stack import Stack, StackOptions

_IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
_DESKTOP: ViewportSize = {"width": 1060, "height": 700}
_PHONE: ViewportSize = {"width": 390, "height": 780}


@dataclass(frozen=True)
class Look:
    name: str
    viewport: ViewportSize
    scheme: Literal["light", "dark"]
    #: The states of the tour that are worth a picture so.
    states: tuple[str, ...]


_LOOKS = (
    Look(
        "light",
        _DESKTOP,
        "light",
        ("idle", "asking", "talking", "left", "no-agent", "reconnecting", "failed"),
    ),
    Look("dark", _DESKTOP, "dark", ("talking",)),
    Look("phone", _PHONE, "light", ("talking", "no-microphone")),
)


async def _photograph(browser: Browser, base_url: str, look: Look) -> None:
    context = await browser.new_context(
        viewport=look.viewport, color_scheme=look.scheme, reduced_motion="reduce", permissions=["microphone"]
    )
    page = await context.new_page()
    async for state in tour(page, base_url, f"support-{look.name}"):
        if state in look.states:
            await page.screenshot(path=_IMAGES / f"demo-{state}-{look.name}.png")
    await context.close()


async def _photograph_all(base_url: str) -> None:
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
        for look in _LOOKS:
            await _photograph(browser, base_url, look)
        await browser.close()


def main() -> None:
    ensure_demo_assets()
    _IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(
            port=0, livekit_port=0, agent_name="example-agent", ttl_s=300, folder=Path(folder)
        )
        stack = Stack(options, print, undisturbed=contextlib.nullcontext)
        try:
            stack.start()
            asyncio.run(_photograph_all(stack.service.base_url))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
