"""The page of the API in a real browser: all of it, and nothing from elsewhere."""

import pytest
from playwright.async_api import Page, Request, expect

from browser.test_accessibility import violations
from devstack.service import Service

pytestmark = [pytest.mark.real, pytest.mark.browser]


async def test_the_page_shows_every_endpoint_and_asks_nobody_else(page: Page, service: Service) -> None:
    asked: list[str] = []

    def on_request(request: Request) -> None:
        asked.append(request.url)

    page.on("request", on_request)
    await page.goto(f"{service.base_url}/docs")
    document = await (await page.request.get(f"{service.base_url}/openapi.json")).json()
    described = [
        f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations
    ]
    assert len(described) >= len(document["paths"]) > 0
    await expect(page.locator("details > summary > code")).to_have_text(described)

    for endpoint in await page.locator("details").all():
        await endpoint.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(endpoint.get_by_role("heading", name="Answers")).to_be_visible()
    assert await violations(page) == []
    assert [url for url in asked if not url.startswith((service.base_url, "data:"))] == []
