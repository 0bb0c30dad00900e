"""The context of a check: the settings, the environment, and the clients to LiveKit and HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from app.clock import Clock
from app.config.environment import sqlite_path
from app.config.settings import Config
from app.livekit.interface import LiveKit


class LiveKitRooms(LiveKit, Protocol):
    """LiveKit with the one call that only the doctor needs."""

    async def delete_room(self, room_name: str) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    config: Config
    environ: Mapping[str, str] = field(repr=False)
    http: aiohttp.ClientSession
    livekit: LiveKitRooms
    clock: Clock
    #: How long an agent may take to join.
    wait_s: float

    @property
    def database_file(self) -> Path | None:
        """None for a database server."""
        return sqlite_path(self.config.database_url)

    @property
    def livekit_http_url(self) -> str:
        """The base URL of LiveKit's API."""
        scheme, _, rest = self.config.livekit_url.partition("://")
        return f"{'https' if scheme in ('wss', 'https') else 'http'}://{rest}"

    @property
    def local_url(self) -> str:
        """The base URL of the service on this machine."""
        host = self.config.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared with, not listened on
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.config.port}"
