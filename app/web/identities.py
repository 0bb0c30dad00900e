"""Whom the token endpoint makes a token for: the identities and names that it accepts."""

import unicodedata
from typing import Annotated

from msgspec import Meta

from app.errors import Invalid

#: LiveKit's limit for both (livekit-server, config.go, MaxParticipantIdentityLength).
_MOST_BYTES = 256
#: The identity of an agent that asks for no other is `agent-` and the id of its job (livekit-agents, job.py).
#: Call centres name people `agent-...` too.
_AGENT_PREFIX = "agent-AJ_"
#: Control and format characters, lone surrogates, separators of lines. Not those that this version of Unicode
#: does not know yet.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Of the format characters, those that join letters, as in Persian, and emojis.
_JOINERS = "\u200c\u200d"

_PRINTABLE = "Up to 256 bytes in UTF-8, without control characters and invisible ones."
ParticipantIdentity = Annotated[
    str,
    Meta(
        max_length=_MOST_BYTES,
        extra_json_schema={"format": "participant-identity"},
        description=f"{_PRINTABLE} Not that of an agent.",
    ),
]
ParticipantName = Annotated[
    str,
    Meta(
        max_length=_MOST_BYTES,
        extra_json_schema={"format": "participant-name"},
        description=_PRINTABLE,
    ),
]


def check_identity(identity: str) -> None:
    """Raises: Invalid: nobody can be told by it, LiveKit does not take it, or it is an agent's."""
    _check_text(identity, "identity", "participant_identity")
    if identity.startswith(_AGENT_PREFIX):
        raise Invalid(
            f"An identity that begins with {_AGENT_PREFIX} is an agent's - at `$.participant_identity`"
        )


def check_name(name: str) -> None:
    """Raises: Invalid: it cannot be shown as it is, or LiveKit does not take it."""
    _check_text(name, "name", "participant_name")


def _check_text(text: str, what: str, field: str) -> None:
    if any(unicodedata.category(letter) in _UNPRINTABLE and letter not in _JOINERS for letter in text):
        raise Invalid(f"The {what} has a control character or an invisible one - at `$.{field}`")
    if len(text.encode()) > _MOST_BYTES:
        raise Invalid(f"The {what} exceeds {_MOST_BYTES} bytes in UTF-8 - at `$.{field}`")
