"""Queries: read dispatches and their history from the database, without LiveKit."""

from collections.abc import Iterable, Sequence

from app.database.store import Store
from app.errors import NotFound
from app.lifecycle import Dispatch, State
from app.lifecycle.relief import answering
from app.state.views import HistoryLine


class Queries:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def current(self, room_name: str, agent_name: str) -> Dispatch | None:
        """The live dispatch, else the one in `ending`; None without either."""
        return _current(await self._named(room_name, agent_name))

    async def status(self, room_name: str, agent_name: str) -> Dispatch | None:
        """As `current`; but while another agent takes over, the one that answers, as if it were to stay."""
        named = await self._named(room_name, agent_name)
        return answering(named) or _current(named)

    async def _named(self, room_name: str, agent_name: str) -> list[Dispatch]:
        rows = (await self._store.room(room_name)).dispatches
        return [row for row in rows if row.agent_name == agent_name]

    async def agents(self, room_name: str) -> frozenset[str | None]:
        """The identities of the agents of the room's dispatches that have not ended."""
        return frozenset(row.agent_identity for row in (await self._store.room(room_name)).dispatches)

    async def find(
        self,
        states: Iterable[State],
        after: tuple[int, str] | None,
        limit: int,
        *,
        room_name: str | None = None,
        agent_name: str | None = None,
    ) -> list[Dispatch]:
        """The dispatches in these states, newest first, that follow `after` (creation time and row id)."""
        return await self._store.list_dispatches(
            states, after, limit, room_name=room_name, agent_name=agent_name
        )

    async def dispatch(self, dispatch_id: str) -> Dispatch | None:
        """The dispatch with LiveKit's id or that of its row; it may have ended."""
        return await self._store.find_dispatch(dispatch_id)

    async def history(self, dispatch_id: str) -> tuple[Dispatch, list[HistoryLine]]:
        """Raises: NotFound: the dispatch never existed, or ended longer ago than history is kept."""
        dispatch = await self.dispatch(dispatch_id)
        if dispatch is None:
            raise NotFound("Dispatch not found")
        return dispatch, await self._store.history(dispatch.id)


def _current(named: Sequence[Dispatch]) -> Dispatch | None:
    live = [row for row in named if row.state is not State.ENDING]
    return next(iter(live or named), None)
