"""A client of the service's API, as a frontend uses it: requests an agent, reads its status, ends it."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from devstack.service import API_KEY


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


class Caller:
    """Calls one service with one credential, an API key or a participant's token."""

    def __init__(self, base_url: str, credential: str = API_KEY) -> None:
        self._base_url = base_url
        self._credential = credential
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._base_url,
            headers={"Authorization": f"Bearer {self._credential}"},
            # Many tests call from one process at once, on purpose.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session:
            await self._session.close()

    async def request_agent(self, room: str, **fields: object) -> Answer:
        return await self.call("POST", "/api/livekit/dispatch-agent", json={"roomName": room, **fields})

    async def end_agent(self, room: str) -> Answer:
        return await self.call("DELETE", "/api/livekit/dispatch-agent", params={"roomName": room})

    async def status(self, room: str) -> dict[str, Any]:
        return (await self.call("GET", "/api/livekit/agent-status", params={"roomName": room})).body

    async def agents(self, **params: str) -> list[dict[str, Any]]:
        body = (await self.call("GET", "/api/livekit/agents", params=params)).body
        agents: list[dict[str, Any]] = body["agents"]
        return agents

    async def call(self, method: str, path: str, **arguments: Any) -> Answer:
        assert self._session is not None, "use it as a context manager"  # noqa: S101 - a bug in the caller
        async with self._session.request(method, path, **arguments) as response:
            return Answer(response.status, await response.json(), dict(response.headers))
