"""The page of the API in a real browser: all of it, and nothing from elsewhere."""

from typing import Literal

import pytest
from playwright.async_api import Page, Request, expect

from browser.test_accessibility import violations
from devstack.service import Service

pytestmark = [pytest.mark.real, pytest.mark.browser]

#: Good practice beyond WCAG that Swagger UI's own markup does not keep.
_SWAGGER_UI = ("heading-order", "landmark-unique", "region")
#: How many are opened: each opening draws all that is open anew, which takes seconds on a busy machine.
_OPENED = 2
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


async def test_the_page_shows_every_endpoint_and_asks_nobody_else(page: Page, service: Service) -> None:
    asked: list[str] = []

    def on_request(request: Request) -> None:
        asked.append(request.url)

    page.on("request", on_request)
    await page.goto(f"{service.base_url}/docs")
    document = await (await page.request.get(f"{service.base_url}/openapi.json")).json()
    described = [
        f"{method.upper()}{path}" for path, operations in document["paths"].items() for method in operations
    ]
    assert len(described) >= len(document["paths"]) > 0
    endpoints = page.locator(".opblock")
    await expect(endpoints).to_have_count(len(described))
    shown = [
        await endpoint.locator(".opblock-summary-method").inner_text()
        + await endpoint.locator(".opblock-summary-path").inner_text()
        for endpoint in await endpoints.all()
    ]
    assert [text.replace("\u200b", "") for text in shown] == described

    for endpoint in (await endpoints.all())[:_OPENED]:
        await endpoint.get_by_role("button").first.focus()
        await page.keyboard.press("Enter")
        responses = endpoint.get_by_role("heading", name="Responses")
        await expect(responses).to_be_visible(timeout=30_000)
    for scheme in _SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        assert await violations(page, besides=_SWAGGER_UI) == []
    await page.set_viewport_size({"width": 390, "height": 780})
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    assert [url for url in asked if not url.startswith((service.base_url, "data:"))] == []
