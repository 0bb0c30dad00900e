"""The documentation in a real browser, from a web server and from the file system: nothing from elsewhere."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Request, expect

from browser.test_accessibility import violations
from devstack import docs_site
from devstack.ports import LOOPBACK
from made_once import made_once

pytestmark = pytest.mark.browser

#: The index of the search and a diagram take seconds on a busy machine.
_SLOW_MS = 30_000
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
#: Good practice beyond WCAG that the theme's own markup does not keep.
_THEME = ("landmark-unique",)
#: The search and the diagrams are in closed ones, which no test can look into.
_OPEN_SHADOW_ROOTS = """
const attachShadow = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (init) {
  return attachShadow.call(this, { ...init, mode: "open" });
};
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def build(folder: Path) -> None:
        docs_site.stage(folder)
        docs_site.add_scripts(folder)
        docs_site.build(folder)

    return made_once(tmp_path_factory, "docs-site", build) / "site"


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """Where the site is: not at the root of its host."""
    if request.param == "file":
        yield site.as_uri()
        return
    handler = partial(_Quiet, directory=str(site.parent))
    with ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}/{site.name}"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a test has no use for an access log."""


async def test_one_can_read_search_and_move_about_without_another_host(
    browser: Browser, address: str
) -> None:
    asked: list[str] = []
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        asked.append(request.url)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context = await browser.new_context(reduced_motion="reduce")
    await context.add_init_script(_OPEN_SHADOW_ROOTS)
    page = await context.new_page()
    page.on("request", on_request)
    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    await page.goto(f"{address}/index.html")
    navigation = page.get_by_role("navigation", name="Navigation", exact=True)
    for section in docs_site.sections():
        await expect(navigation.get_by_text(section, exact=True).first).to_be_visible()

    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("combobox", name="Search").fill("tombstone")
    await page.get_by_role("option", name="Why old events never undo new ones").click()
    await expect(page).to_have_url(re.compile(r"/docs/lifecycle\.html"), timeout=_SLOW_MS)
    await expect(page.locator("div.mermaid svg").first).to_be_visible(timeout=_SLOW_MS)

    await navigation.get_by_role("link", name="Metrics").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Metrics")

    await context.close()
    assert complaints == []
    assert any(url.endswith("mermaid.js") for url in asked)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


# axe reads the style sheets by a request, which a page from a file system may not make.
@pytest.mark.parametrize("address", ["http"], indirect=True)
async def test_axe_finds_nothing_wrong(browser: Browser, address: str) -> None:
    page = await browser.new_page()
    found: dict[str, list[str]] = {}
    for name in ("index.html", "docs/integrate.html"):
        await page.goto(f"{address}/{name}")
        for scheme in _SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            found[f"{name}, {scheme}"] = await violations(page, besides=_THEME)
    await page.close()
    assert {name: problems for name, problems in found.items() if problems} == {}
