"""A warm agent without a worker: a real client that does what the helper promises to do."""

import asyncio
import json
from typing import Self

from livekit import api, rtc

from devstack.livekit_server import LiveKitServer


def agent_token(server: LiveKitServer, room: str, identity: str) -> str:
    """A token like those that LiveKit gives its agents."""
    return (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_kind("agent")
        .with_grants(api.VideoGrants(room_join=True, room=room, agent=True))
        .to_jwt()
    )


class WarmAgent:
    def __init__(self, url: str) -> None:
        self._url = url
        self._holding_room, self._room = rtc.Room(), rtc.Room()
        self._claim: str | None = None

    async def join(self, token: str) -> Self:
        await self._holding_room.connect(self._url, token)
        own = self._holding_room.local_participant
        own.register_rpc_method("agent-lifecycle.health", self._health)
        own.register_rpc_method("agent-lifecycle.claim", self._take)
        return self

    async def leave(self) -> None:
        await asyncio.gather(self._holding_room.disconnect(), self._room.disconnect())

    def _health(self, _: rtc.RpcInvocationData) -> str:
        return json.dumps({"session": "waiting", "ready": True})

    async def _take(self, call: rtc.RpcInvocationData) -> str:
        told = json.loads(call.payload)
        if self._claim not in (None, told["claim"]):
            raise rtc.RpcError(409, "it has another claim")
        if self._claim is None:
            self._claim = told["claim"]
            await self._room.connect(self._url, told["token"])
        return json.dumps({"claimed": True})
