"""The status of a running service, read over HTTP, as a table or JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp
import msgspec

from app.cli.calls import CALL_TIMEOUT, reason_in
from app.cli.columns import aligned
from app.control.readiness import Report
from app.livekit.answers import read_within
from app.logs.formats import printable
from app.web.schemas import AgentItem, AgentList

_PAGE = 100
_HEADINGS = ("ROOM", "AGENT", "STATE", "PEOPLE", "TTL", "AGE", "DISPATCH")


class StatusUnknown(Exception):
    """The service did not answer as expected; the message says what to do."""


class Status(msgspec.Struct, rename="camel", kw_only=True):
    service: Report
    agents: list[AgentItem]


async def ask(base_url: str, api_key: str) -> Status:
    """Raises: StatusUnknown."""
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        async with aiohttp.ClientSession(base_url, timeout=CALL_TIMEOUT) as session:
            service = await _readiness(session)
            agents = await _agents(session, headers)
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        raise StatusUnknown(
            f"no answer at {base_url}: check that the service runs there, or pass another --url"
        ) from error
    except (aiohttp.ClientError, msgspec.MsgspecError) as error:
        raise StatusUnknown(f"{base_url} is not this service: check --url") from error
    return Status(service=service, agents=agents)


async def _readiness(session: aiohttp.ClientSession) -> Report:
    # 503 is a report too: not ready, and why.
    async with session.get("/readyz", allow_redirects=False) as response:
        return msgspec.json.decode(await read_within(response), type=Report)


async def _agents(session: aiohttp.ClientSession, headers: dict[str, str]) -> list[AgentItem]:
    found: list[AgentItem] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
        async with session.get("/api/livekit/agents", params=params, headers=headers) as response:
            body = await read_within(response)
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise StatusUnknown("the service rejected the API key: set API_KEYS here to that of the service")
        if response.status != HTTPStatus.OK:
            raise StatusUnknown(
                f"the service failed to list its agents ({response.status}): {reason_in(body)}"
            )
        page = msgspec.json.decode(body, type=AgentList)
        found += page.agents
        cursor = page.next_cursor
    return found


def to_json(status: Status) -> str:
    return msgspec.json.format(msgspec.json.encode(status)).decode()


def table(status: Status, now: datetime) -> list[str]:
    """The lines: the service's readiness, and a row for each agent."""
    service = status.service
    lines = [
        "   ".join(
            (
                "ready" if service.ready else "NOT READY",
                f"LiveKit: {service.livekit}",
                f"database: {service.database}",
                f"timers: {service.timers}",
            )
        ),
        *(f"this LiveKit is too old for: {feature}" for feature in service.missing),
        "",
    ]
    if not status.agents:
        return [*lines, "no agents"]
    return lines + aligned([_HEADINGS, *(_row(agent, now) for agent in status.agents)])


def _row(agent: AgentItem, now: datetime) -> Sequence[str]:
    return (
        printable(agent.room_name),
        printable(agent.agent_name),
        agent.state,
        str(agent.participant_count),
        _duration(_time(agent.ttl_expires_at) - now) if agent.ttl_expires_at else "-",
        _duration(now - _time(agent.created_at)),
        agent.dispatch_id,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _duration(length: timedelta) -> str:
    """The two largest units; negative counts as 0."""
    seconds = max(0, round(length.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    if minutes:
        return f"{minutes}m {seconds % 60}s"
    return f"{seconds}s"
