"""The table of endpoints in docs/api.md against the route table: paths, access and input."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.config.settings import Config
from app.web.endpoints import Access
from app.web.routes import api_endpoints

DOC = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
#: No routes of the API.
PAGES = {"/dashboard", "/demo"}
WHO = {
    Access.LIVEKIT: "LiveKit, signed",
    Access.WORKER: "worker, signed",
    Access.MEMBER: "member, key",
    Access.OPERATOR: "key",
    Access.PROBE: "anyone",
    Access.SCRAPER: "anyone",
}
CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_api_key="key",
    livekit_api_secret="secret",
    agent_names=("agent",),
    database_url="",
)


class Row(NamedTuple):
    method: str
    path: str
    who: str
    query: frozenset[str]


def listed() -> set[Row]:
    section = DOC.partition("## Endpoints")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) `([^?`]+)\??([^`]*)` \| ([^|]+) \|", section, re.MULTILINE)
    return {
        # Access to two endpoints depends on a setting; the text after the semicolon is about that.
        Row(method, re.sub(r"\{\w+\}", "{}", path), who.split(";")[0].strip(), _names(query))
        for method, path, query, who in rows
        if path not in PAGES
    }


def _names(query: str) -> frozenset[str]:
    return frozenset(part.rstrip("=") for part in query.split("&") if part)


def test_the_page_lists_every_endpoint() -> None:
    there_are = {
        Row(
            endpoint.method,
            re.sub(r"\{\w+\}", "{}", endpoint.path),
            WHO[endpoint.access],
            frozenset(field.encode_name for field in msgspec.structs.fields(endpoint.query))
            if endpoint.query
            else frozenset(),
        )
        for endpoint in api_endpoints(CONFIG)
    }
    assert listed() == there_are
