"""Plays the service for warm agents: makes a holding room with an agent in it, and claims that agent."""

import datetime as dt
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from livekit import api
from livekit.protocol.room import PerformRpcRequest, PerformRpcResponse
from reusable_agent import CLAIM_METHOD, DISPATCH_ATTRIBUTE, HEALTH_METHOD, HOLDING_ROOM_PREFIX

from devstack.livekit_server import LiveKitServer
from devstack.truth import RoomTruth, eventually

_YEAR_S = 365 * 24 * 3600
_RPC_TIMEOUT_MS = 3_000
_RPC_ERROR = re.compile(r"RpcError (\d+)")


class ClaimRefused(RuntimeError):
    """The agent has answered a claim with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Holding:
    """A holding room, and the one agent in it."""

    server: LiveKitServer
    client: api.LiveKitAPI
    agent_name: str
    name: str = field(default_factory=lambda: HOLDING_ROOM_PREFIX + uuid.uuid4().hex)
    dispatch_id: str = ""
    identity: str = ""

    @property
    def truth(self) -> RoomTruth:
        return RoomTruth(self.client, self.name)

    async def fill(self, *, metadata: str = "") -> None:
        """Make the room and its dispatch, and return once its agent waits."""
        await self.client.room.create_room(
            api.CreateRoomRequest(name=self.name, empty_timeout=_YEAR_S, departure_timeout=_YEAR_S)
        )
        made = await self.client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(room=self.name, agent_name=self.agent_name, metadata=metadata)
        )
        self.dispatch_id = made.id
        await eventually(self.waits, f"an agent waits in {self.name}")

    async def health(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            await perform_rpc(self.client, self.name, self.identity, HEALTH_METHOD)
        )
        return told

    async def claim(
        self,
        room: str,
        *,
        claim: str = "claim-1",
        token: str = "",
        metadata: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Assign the agent to a room.

        Raises:
            ClaimRefused: the agent refuses.
        """
        payload = {
            "claim": claim,
            "room": room,
            "token": token or self.token(room),
            "metadata": metadata,
            "attributes": dict(attributes or {}),
        }
        try:
            told = await perform_rpc(self.client, self.name, self.identity, CLAIM_METHOD, json.dumps(payload))
        except api.TwirpError as error:
            code = _RPC_ERROR.search(error.message)
            if code is None:
                raise
            raise ClaimRefused(int(code[1]), error.message) from error
        answer: dict[str, Any] = json.loads(told)
        return answer

    def token(self, room: str, *, secret: str = "") -> str:
        """The token with which the agent enters the room, as LiveKit makes those of its agents."""
        grants = api.VideoGrants(
            room_join=True,
            room=room,
            agent=True,
            can_publish=True,
            can_subscribe=True,
            can_publish_data=True,
            can_update_own_metadata=True,
        )
        return (
            api.AccessToken(self.server.api_key, secret or self.server.api_secret)
            .with_identity(self.identity)
            .with_kind("agent")
            .with_attributes({"lk.agent.name": self.agent_name, DISPATCH_ATTRIBUTE: self.dispatch_id})
            .with_ttl(dt.timedelta(seconds=60))
            .with_grants(grants)
            .to_jwt()
        )

    async def delete_dispatch(self) -> None:
        await self.client.agent_dispatch.delete_dispatch(self.dispatch_id, self.name)

    async def waits(self) -> bool:
        """Whether its agent is in, and unclaimed."""
        agents = await self.truth.agents()
        if not agents:
            return False
        [self.identity] = agents
        try:
            return await self.health() == {"session": "waiting", "ready": True}
        except api.TwirpError:
            # It is in the room, and has not registered its methods yet.
            return False


async def perform_rpc(
    client: api.LiveKitAPI, room: str, identity: str, method: str, payload: str = ""
) -> str:
    """Call a method of a participant, as the service does; livekit-api lacks this call."""
    service = client.room
    answer = await service._client.request(  # noqa: SLF001
        "RoomService",
        "PerformRpc",
        PerformRpcRequest(
            room=room,
            destination_identity=identity,
            method=method,
            payload=payload,
            response_timeout_ms=_RPC_TIMEOUT_MS,
        ),
        service._auth_header(api.VideoGrants(room_admin=True, room=room)),  # noqa: SLF001
        PerformRpcResponse,
    )
    text: str = answer.payload
    return text
