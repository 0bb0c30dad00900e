"""Memories of conversations: whose they are, and what is stored of one."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One agent name in one instance of a room."""

    room_name: str
    room_sid: str
    agent_name: str


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """An encrypted history, and the id of its key."""

    key_id: str
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What was said, as the agent's helper saved it: a JSON object."""

    history: bytes = field(repr=False)
    saved_at: int
