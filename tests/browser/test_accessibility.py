"""axe-core finds nothing wrong with any state of the demo page, light or dark, wide or narrow."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, ViewportSize

from devstack.demo_tour import tour
from devstack.service import Service
from devstack.truth import RoomTruth

pytestmark = [pytest.mark.real, pytest.mark.browser]

_AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
_LOOKS: tuple[tuple[ViewportSize, Literal["light", "dark"]], ...] = (
    ({"width": 390, "height": 780}, "light"),
    ({"width": 1060, "height": 700}, "dark"),
)
_STATES = {
    *("idle", "asking", "connecting", "waiting", "talking", "left"),
    *("no-agent", "reconnecting", "failed", "no-microphone"),
}


async def violations(page: Page, *, besides: Iterable[str] = ()) -> list[str]:
    """What axe finds; `besides` are rules that it does not check."""
    # Not by a script tag: the page's policy lets none in.
    await page.evaluate(_AXE.read_text(encoding="utf-8"))
    rules = {rule: {"enabled": False} for rule in besides}
    report: dict[str, list[dict[str, Any]]] = await page.evaluate("rules => axe.run({ rules })", rules)
    assert report["passes"], "axe has looked at nothing"
    return [f"{one['id']}: {node['html'][:120]}" for one in report["violations"] for node in one["nodes"]]


async def test_no_state_of_the_demo_has_a_violation(page: Page, service: Service, truth: RoomTruth) -> None:
    await page.emulate_media(reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    async for state in tour(page, service.base_url, truth.name):
        for viewport, scheme in _LOOKS:
            await page.set_viewport_size(viewport)
            await page.emulate_media(color_scheme=scheme)
            found[f"{state}, {scheme}, {viewport['width']} px"] = await violations(page)

    assert {name: problems for name, problems in found.items() if problems} == {}
    assert {name.partition(",")[0] for name in found} == _STATES
