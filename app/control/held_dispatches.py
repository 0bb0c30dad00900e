"""The dispatches of warm agents, as if they were in the rooms that these agents have gone into."""

from collections.abc import Iterable
from dataclasses import replace

from app.database.store import Store
from app.errors import LiveKitUnavailable
from app.lifecycle import Dispatch, State
from app.lifecycle.warm import HOLDING_PREFIX, POOLED
from app.livekit.interface import ListedDispatch, LiveKit
from app.state.presence import Participant


class HeldDispatches:
    def __init__(self, livekit: LiveKit, store: Store) -> None:
        self._livekit = livekit
        self._table = store.warm_agents

    async def of_rows(self, rows: Iterable[Dispatch]) -> tuple[ListedDispatch, ...]:
        """Those of the warm agents that these rows have claimed."""
        found: list[ListedDispatch] = []
        for row in rows:
            # On hold it has none any more.
            if row.holding_room is None or row.state is State.ON_HOLD:
                continue
            found += [
                replace(one, row_id=row.id, created_at=row.dispatched_at or one.created_at)
                for one in await self._list(row.holding_room, row.agent_name)
            ]
        return tuple(found)

    async def of_strangers(
        self, participants: Iterable[Participant], rows: Iterable[Dispatch]
    ) -> tuple[ListedDispatch, ...]:
        """Those of claimed agents in a room of whose claim the database does not know.

        It was lost, or is an older backup. A claim is stored before its agent comes.
        """
        of_rows = {row.holding_room for row in rows}
        agents = {one.holding_room: one for one in participants if one.holding_room}
        strangers = agents.keys() - of_rows
        if not strangers:
            return ()
        known = await self._table.known([room.removeprefix(HOLDING_PREFIX) for room in strangers])
        strangers -= {one.room_name for one in known.values() if one.state not in POOLED}
        found = [
            replace(one, created_at=agents[room].joined_at or one.created_at)
            for room in sorted(strangers)
            for one in await self._list(room, agents[room].agent_name)
        ]
        return tuple(found)

    async def _list(self, room_name: str, agent_name: str | None) -> list[ListedDispatch]:
        listed = await self._list_in(room_name)
        return [replace(one, holding_room=room_name) for one in listed if one.agent_name == agent_name]

    async def _list_in(self, room_name: str) -> tuple[ListedDispatch, ...]:
        if await self._livekit.find_room(room_name) is None:
            return ()
        try:
            return await self._livekit.list_dispatches(room_name)
        except LiveKitUnavailable:
            # A room that closed between the calls causes this too.
            if await self._livekit.find_room(room_name):
                raise
            return ()
