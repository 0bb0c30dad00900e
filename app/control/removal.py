"""Removal of dispatches from LiveKit, and of their agents from rooms."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from app.clock import Clock
from app.control.candidates import Candidate
from app.control.creation import find_in_livekit
from app.control.processor import ChangeProcessor, advance_of
from app.database.store import Store
from app.errors import LiveKitUnavailable, ServiceError
from app.lifecycle import Dispatch, Event, Signal
from app.lifecycle.mode import Mode
from app.livekit.interface import LiveKit, RoomInfo
from app.metrics.counters import SuppressedActions
from app.state.changes import Effects, Snapshot
from app.state.ownership import agents_to_remove, avatars_of
from app.state.presence import Participant, ParticipantKind

logger = logging.getLogger(__name__)

#: How often it is looked again whether an agent has gone, and after which wait.
_LEAVES_WITHIN_S = (0.05, 0.2, 0.5)

P = ParamSpec("P")
T = TypeVar("T")


class Remover:
    """Only this class takes agents out of rooms.

    Its methods return the effects of what they recorded, for the caller to run. They raise
    LiveKitUnavailable or LiveKitRefused if a removal fails. The failure is counted and recorded, and the
    deadline of the dispatch retries the removal.
    """

    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        processor: ChangeProcessor,
        clock: Clock,
        *,
        mode: Mode,
        suppressed: SuppressedActions,
        concurrency: int = 32,
    ) -> None:
        """`concurrency`: calls to LiveKit at once."""
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._clock = clock
        self._mode = mode
        self._suppressed = suppressed
        # Held only during a call: when many TTLs end at once, a removal that waits for the database must not
        # delay another one's call to LiveKit.
        self._calls = asyncio.Semaphore(concurrency)

    async def expire(self, dispatch: Dispatch, generation: int) -> Effects:
        """Remove a dispatch whose TTL has passed, unless LiveKit lists people in the room.

        `generation` is that of the room, read before LiveKit is asked.
        """
        try:
            room = await self._call(self._livekit.find_room, dispatch.room_name)
            participants = (
                await self._call(self._livekit.list_participants, dispatch.room_name) if room else ()
            )
        except ServiceError:
            await self._record_failure(dispatch)
            raise
        people = sum(participant.kind is ParticipantKind.PERSON for participant in participants)
        if room and room.sid == dispatch.room_sid and people:
            found = Snapshot(
                room_name=dispatch.room_name, room=room, participants=participants, generation=generation
            )
            occupied = advance_of(dispatch, Signal(event=Event.OCCUPIED, people=people))
            await self._processor.submit(found, occupied)
            return ()
        return await self._remove(dispatch, room)

    async def remove(self, dispatch: Dispatch, room: RoomInfo | None = None) -> Effects:
        """Delete the dispatch from LiveKit, remove its agent, and check that the agent is gone.

        `room`: as LiveKit has just reported it; None: LiveKit is asked.
        """
        if room is None and not self._mode.withholds_removal(dispatch.end_reason):
            try:
                room = await self._call(self._livekit.find_room, dispatch.room_name)
            except ServiceError:
                await self._record_failure(dispatch)
                raise
        return await self._remove(dispatch, room)

    async def remove_candidate(self, room_name: str, candidate: Candidate) -> None:
        """Remove a dispatch and an agent that have no row."""
        if candidate.listed and candidate.listed.holding_room:
            await self._call(self._livekit.delete_room, candidate.listed.holding_room)
        elif candidate.listed:
            await self._call(self._livekit.delete_dispatch, room_name, candidate.listed.id)
        if candidate.identities:
            # A person may have joined under such an identity since.
            participants = await self._call(self._livekit.list_participants, room_name)
            others = {one.identity for one in participants if one.kind is not ParticipantKind.PERSON}
            for identity in candidate.identities:
                if identity in others:
                    await self._call(self._livekit.remove_participant, room_name, identity)

    async def _remove(self, dispatch: Dispatch, room: RoomInfo | None) -> Effects:
        if self._mode.withholds_removal(dispatch.end_reason):
            self._suppressed.note("remove", dispatch.id)
        else:
            try:
                if dispatch.holding_room:
                    # The job of a warm agent ends with the room that it is in.
                    await self._call(self._livekit.delete_room, dispatch.holding_room)
                if room and room.sid == dispatch.room_sid:
                    await self._remove_from_livekit(dispatch)
            except ServiceError:
                await self._record_failure(dispatch)
                raise
        return (await self._processor.advance(dispatch, Signal(event=Event.REMOVED))).effects

    async def _record_failure(self, dispatch: Dispatch) -> None:
        outcome = await self._processor.advance(dispatch, Signal(event=Event.REMOVE_FAILED))
        failures = outcome.dispatch.cleanup_failures if outcome.dispatch else 0
        level = logging.ERROR if failures >= 3 else logging.WARNING  # noqa: PLR2004 - an error from the third failure on
        extra = {"action": "cleanup_failed", "dispatch_id": dispatch.dispatch_id, "failures": failures}
        logger.log(level, "Agent removal failed; it is retried at its deadline", extra=extra)

    async def _remove_from_livekit(self, dispatch: Dispatch) -> None:
        if dispatch.holding_room is None:
            await self._delete_dispatch(dispatch)
        # LiveKit deletes a young dispatch only after 5 s, and never removes a dead agent.
        agents = await self._agents_of(dispatch)
        for agent in agents:
            await self._call(self._livekit.remove_participant, dispatch.room_name, agent)
        if agents:
            await self._see_them_gone(dispatch)

    async def _delete_dispatch(self, dispatch: Dispatch) -> None:
        dispatch_id = dispatch.dispatch_id
        if dispatch_id is None:
            found = await self._call(find_in_livekit, self._livekit, dispatch, self._clock)
            dispatch_id = found.id if found else None
        if dispatch_id:
            await self._call(self._livekit.delete_dispatch, dispatch.room_name, dispatch_id)

    async def _see_them_gone(self, dispatch: Dispatch) -> None:
        """LiveKit lists an agent that is leaving for some milliseconds more."""
        for wait_s in _LEAVES_WITHIN_S:
            if not await self._agents_of(dispatch):
                return
            await asyncio.sleep(wait_s)
        if await self._agents_of(dispatch):
            raise LiveKitUnavailable("The agent is still in the room")

    async def _agents_of(self, dispatch: Dispatch) -> list[str]:
        """The identities of what is in the room for the dispatch: its agent, and the avatar of its agent."""
        others = await self._list_others(dispatch)
        agents = [one for one in others if one.kind is ParticipantKind.AGENT]
        owners: list[str | None] = []
        if agents:
            rows = (await self._store.room(dispatch.room_name)).dispatches
            owners += agents_to_remove(dispatch, rows, agents)
        if all(agent.identity != dispatch.agent_identity for agent in agents):
            # It has left without its avatar.
            orphans = avatars_of([dispatch.agent_identity], others)
        else:
            orphans = []
        own = [identity for identity in owners if identity]
        return own + avatars_of(own, others) + orphans

    async def _list_others(self, dispatch: Dispatch) -> list[Participant]:
        """Who is in the room of the dispatch and is no person.

        LiveKit may list one whose leave it has reported until the room closes, and no call removes that one.
        """
        listed = await self._call(self._livekit.list_participants, dispatch.room_name)
        others = [one for one in listed if one.kind is not ParticipantKind.PERSON]
        sids = [one.sid for one in others]
        departed = await self._store.departed(dispatch.room_sid, sids) if sids else ()
        return [one for one in others if one.sid not in departed]

    async def _call(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._calls:
            return await call(*args, **kwargs)
