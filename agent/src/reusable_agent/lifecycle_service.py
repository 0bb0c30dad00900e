"""The channel to the agent lifecycle service: requests that are signed with the worker's LiveKit key."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import aiohttp
from livekit import api

URL_VARIABLE = "AGENT_LIFECYCLE_URL"

#: The service allows clocks to differ by a minute.
_SIGNED_FOR = timedelta(minutes=1)
_REFUSED = range(400, 500)
#: The service is overloaded, or asks to slow down.
_RETRYABLE = (408, 425, 429)


class ServiceUnavailableError(Exception):
    """The service did not answer, or answered that it cannot now."""


class ServiceRefusedError(Exception):
    """The service rejected the request; `code` is the service's own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code


@dataclass(frozen=True, kw_only=True)
class LifecycleService:
    """The service at `url`; the key is the one that the worker has for LiveKit."""

    url: str
    api_key: str
    api_secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """By AGENT_LIFECYCLE_URL and the LiveKit key; None if one of them is missing."""
        url = environment.get(URL_VARIABLE, "").strip().rstrip("/")
        key, secret = environment.get("LIVEKIT_API_KEY", ""), environment.get("LIVEKIT_API_SECRET", "")
        return cls(url=url, api_key=key, api_secret=secret) if url and key and secret else None

    async def post(
        self, session: aiohttp.ClientSession, path: str, content: Mapping[str, Any], *, timeout_s: float
    ) -> dict[str, Any]:
        """Send a JSON object to an endpoint for workers, and return the answer.

        Raises:
            ServiceUnavailableError: it may or may not have been taken; the same request may be sent again.
            ServiceRefusedError: it was not taken, and will not be.
        """
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Authorization": f"Bearer {self._sign(body)}", "Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(timeout_s),
                session.post(
                    f"{self.url}/api/livekit/worker/{path}", data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return _read(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceUnavailableError(f"{type(error).__name__}: {error}") from error

    def _sign(self, body: bytes) -> str:
        # The grant with which a worker registers with LiveKit, and a signature as on LiveKit's webhooks.
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return (
            api.AccessToken(self.api_key, self.api_secret)
            .with_grants(api.VideoGrants(agent=True))
            .with_sha256(digest)
            .with_ttl(_SIGNED_FOR)
            .to_jwt()
        )


def _read(status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):  # noqa: PLR2004 - HTTP's own
        return answer
    told = answer if isinstance(answer, dict) else {}
    code, message = str(told.get("code", "?")), str(told.get("message", "no message"))
    if status in _REFUSED and status not in _RETRYABLE:
        raise ServiceRefusedError(status, code, message)
    raise ServiceUnavailableError(f"{status} {code}: {message}")
