"""Calls of a running service by a command, with messages for whoever typed it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec

from app.livekit.answers import read_within

T = TypeVar("T")

CALL_TIMEOUT = aiohttp.ClientTimeout(total=10)


class CallFailed(Exception):
    """The service did not do what was asked; the message says what to do, or the service's reason."""


def open_session(base_url: str, api_key: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {api_key}"}
    return aiohttp.ClientSession(base_url, timeout=CALL_TIMEOUT, headers=headers)


async def call(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    answer: type[T],
    *,
    params: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> T:
    """Raises: CallFailed."""
    try:
        async with session.request(method, path, params=params, json=body) as response:
            text = await read_within(response)
            status = response.status
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CallFailed("the service rejected the API key: set API_KEYS here to that of the service")
        if status != HTTPStatus.OK:
            raise CallFailed(f"the service refused ({status}): {reason_in(text)}")
        return msgspec.json.decode(text, type=answer)
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        raise CallFailed("no answer: check that the service runs there, or pass another --url") from error
    except (aiohttp.ClientError, msgspec.MsgspecError) as error:
        raise CallFailed("that is not this service: check --url") from error


def reason_in(body: bytes) -> str:
    """The message of an answer that is an error."""
    try:
        answer: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return "no reason given"
    return str(answer.get("message")) if isinstance(answer, dict) else "no reason given"
