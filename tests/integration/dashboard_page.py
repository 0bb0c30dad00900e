"""The dashboard's page without a browser: sign-in, stream and actions."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from yarl import URL

from integration.harness import API_KEY, BOUND_S, App

#: The header of a browser for requests of the dashboard's own page.
_OWN = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


class Stream:
    """The messages of one connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, *names: str) -> dict[str, Any]:
        """The next message of one of these names.

        Raises:
            EOFError: the service has closed the stream.
        """
        async with asyncio.timeout(BOUND_S):
            while True:
                name, message = await self._message()
                if name in names:
                    return message

    async def beat(self, matches: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The next beat that matches."""
        async with asyncio.timeout(BOUND_S):
            while not matches(beat := await self.next("beat")):
                pass
        return beat

    async def until_state(self, room: str, state: str) -> dict[str, Any]:
        """The agent of the room, once a message has it in that state."""
        while True:
            message = await self.next("snapshot", "changes")
            for agent in message["agents"]:
                if (agent["room"], agent["state"]) == (room, state):
                    found: dict[str, Any] = agent
                    return found

    async def end(self) -> None:
        """Wait until the service closes the stream."""
        async with asyncio.timeout(BOUND_S):
            while await self._response.content.readline():
                pass

    async def _message(self) -> tuple[str, dict[str, Any]]:
        name = ""
        while True:
            line = await self._response.content.readline()
            if not line:
                raise EOFError
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)


class Page:
    """One browser with its cookies. `async with` closes it."""

    def __init__(self, app: App) -> None:
        host, port = "127.0.0.1", app.port
        self.origin = f"http://{host}:{port}"
        self._session = aiohttp.ClientSession(
            # Like a browser, keep the cookies of an IP address too.
            self.origin,
            cookie_jar=aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=URL(self.origin)),
            read_bufsize=1 << 24,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def cookie(self) -> str:
        """The Cookie header of every request."""
        return "; ".join(f"{cookie.key}={cookie.value}" for cookie in self._session.cookie_jar)

    def copy_cookies_of(self, other: Self) -> None:
        """Keep the cookies, as a browser does when the service restarts at the same address."""
        for cookie in other._session.cookie_jar:
            self._session.cookie_jar.update_cookies({cookie.key: cookie}, URL(self.origin))

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = _OWN if headers is None else headers
        async with self._session.request(method, f"/dashboard{path}", json=body, headers=sent) as response:
            text = await response.read()
            is_json = response.content_type == "application/json"
            parsed = json.loads(text) if is_json else {}
            return Answer(status=response.status, body=parsed, headers=response.headers.copy())

    async def sign_in(self, api_key: str = API_KEY) -> Answer:
        return await self.call("POST", "/session", {"apiKey": api_key})

    async def end(self, room: str, agent: str = "agent") -> Answer:
        return await self.call("POST", "/agents/end", {"roomName": room, "agentName": agent})

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        async with self._session.get("/dashboard/stream") as response:
            assert response.status == 200, await response.text()
            yield Stream(response)
