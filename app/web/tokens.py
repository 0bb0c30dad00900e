"""Tokens of LiveKit's standard token endpoint; their agents go through the lifecycle instead."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from livekit import api

from app.config.settings import Keypair
from app.errors import Invalid
from app.lifecycle import UNTOLD, Briefing
from app.livekit.interface import briefing_of
from app.web.schemas import TokenRequest

_TOKEN_TTL = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A token, and the agents that were requested with it."""

    room_name: str
    #: Whose token it is.
    identity: str
    token: str
    #: What each is to be told, by agent name; None: the caller does not say.
    agents: Mapping[str, Briefing | None]
    #: Whether the room configuration has fields that this version of LiveKit's protocol does not know.
    ignored_fields: bool


class TokenIssuer:
    def __init__(
        self,
        keypair: Keypair,
        agent_names: Sequence[str],
        *,
        room_timeout_s: Callable[[], int],
        allows_egress: bool = False,
        allows_lk_attributes: bool = False,
    ) -> None:
        """`room_timeout_s`: called for each token, since a reload of the policies may change it."""
        self._keypair = keypair
        self._agent_names = tuple(agent_names)
        self._room_timeout_s = room_timeout_s
        self._allows_egress = allows_egress
        self._allows_lk_attributes = allows_lk_attributes

    def issue(self, request: TokenRequest) -> IssuedToken:
        """Make a token; a room or identity that is left out gets a random name.

        Raises:
            Invalid: the room configuration is not one of LiveKit's, an agent name is unknown, or something is
                asked for that is switched off.
        """
        config, ignored_fields = _room_configuration(request.room_config)
        self._check_allowed(config, request.participant_attributes or {})
        agents: dict[str, Briefing | None] = {}
        for agent in config.agents:
            told = briefing_of(agent)
            agents.setdefault(agent.agent_name or self._agent_names[0], told if told != UNTOLD else None)
        if not agents.keys() <= set(self._agent_names):
            raise Invalid("An agent name is not one of AGENT_NAME - at `$.room_config.agents`")
        # In the token, every new room would dispatch them again, and an existing room would ignore them.
        del config.agents[:]
        timeout_s = self._room_timeout_s()
        config.empty_timeout = max(config.empty_timeout, timeout_s)
        config.departure_timeout = max(config.departure_timeout, timeout_s)
        room_name = request.room_name or f"room-{secrets.token_hex(8)}"
        identity = request.participant_identity or f"user-{secrets.token_hex(8)}"
        token = (
            api.AccessToken(self._keypair.key, self._keypair.secret)
            .with_identity(identity)
            .with_name(request.participant_name or "")
            .with_metadata(request.participant_metadata or "")
            .with_attributes(request.participant_attributes or {})
            .with_grants(api.VideoGrants(room_join=True, room=room_name))
            .with_room_config(config)
            .with_ttl(_TOKEN_TTL)
        )
        return IssuedToken(
            room_name=room_name,
            identity=identity,
            token=token.to_jwt(),
            agents=agents,
            ignored_fields=ignored_fields,
        )

    def _check_allowed(self, config: api.RoomConfiguration, attributes: Mapping[str, str]) -> None:
        """Raises: Invalid: whoever chooses what goes into the token would command more than a participant."""
        if config.HasField("egress") and not self._allows_egress:
            raise Invalid("An egress is accepted with TOKEN_EGRESS=true only - at `$.room_config.egress`")
        if not self._allows_lk_attributes and any(name.startswith("lk.") for name in attributes):
            raise Invalid(
                "Names that begin with lk. are accepted with TOKEN_LK_ATTRIBUTES=true only"
                " - at `$.participant_attributes`"
            )


def _room_configuration(fields: dict[str, Any] | None) -> tuple[api.RoomConfiguration, bool]:
    """The configuration, and whether it has fields that are ignored: a newer SDK must not cost an agent."""
    try:
        with suppress(ParseError):
            return ParseDict(fields or {}, api.RoomConfiguration()), False
        return ParseDict(fields or {}, api.RoomConfiguration(), ignore_unknown_fields=True), True
    except (ParseError, RecursionError, ValueError) as error:
        raise Invalid("room_config is not a LiveKit room configuration - at `$.room_config`") from error
