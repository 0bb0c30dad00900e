"""The session's audience: links the session to a person as long as anybody is in the room."""

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF

from reusable_agent.options import Terms


class Audience:
    """The people in a room, and which one of them the session hears.

    RoomIO stays linked to one identity forever and never hears a person who joins later. This class links
    another person in the room when the linked one has left. With several people it links the one who speaks.
    """

    def __init__(self, session: AgentSession[Any], room: rtc.Room, terms: Terms) -> None:
        self._session = session
        self._room = room
        self._terms = terms
        self._closed = False

    def open(self) -> None:
        self._room.on("participant_connected", self._on_change)
        self._room.on("participant_disconnected", self._on_change)
        self._room.on("active_speakers_changed", self._on_speakers)
        self._relink()

    def close(self) -> None:
        self._closed = True
        self._room.off("participant_connected", self._on_change)
        self._room.off("participant_disconnected", self._on_change)
        self._room.off("active_speakers_changed", self._on_speakers)

    def people(self) -> list[rtc.RemoteParticipant]:
        return [one for one in self._room.remote_participants.values() if self.is_person(one)]

    def is_person(self, participant: rtc.Participant) -> bool:
        """Whether the agent answers this participant: not another agent, and not this agent's own avatar."""
        if self._terms.only_identity not in (None, participant.identity):
            return False
        if participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF) == self._room.local_participant.identity:
            return False
        return participant.kind in self._terms.kinds

    def _on_change(self, _: rtc.RemoteParticipant) -> None:
        # RoomIO handles the same event, perhaps later than this handler: let it link or unlink first.
        asyncio.get_running_loop().call_soon(self._relink)

    def _relink(self) -> None:
        if self._closed:
            return
        linked = self._session.room_io.linked_participant
        if linked is not None and linked.identity in self._room.remote_participants:
            return
        for person in self.people():
            self._session.room_io.set_participant(person.identity)
            return

    def _on_speakers(self, speakers: list[rtc.Participant]) -> None:
        speaking = [one.identity for one in speakers if self.is_person(one)]
        if self._closed or not speaking:
            return
        linked = self._session.room_io.linked_participant
        # The person who is heard stays linked while speaking: a second voice must not cut off a sentence.
        if linked is None or linked.identity not in speaking:
            self._session.room_io.set_participant(speaking[0])
