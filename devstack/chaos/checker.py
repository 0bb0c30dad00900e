"""Checks at rest: does every promise hold within its time?"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from livekit import api

from devstack.chaos.databases import OpenDispatch, Tables
from devstack.chaos.drift import (
    Difference,
    RoomState,
    differences,
    leftovers,
    pool_differences,
    read_rooms,
)
from devstack.chaos.options import Options
from devstack.chaos.report import Report
from devstack.chaos.visitors import Visit

_POLL_S = 0.2
#: The pool tries again a minute after agents did not come.
_FILL_S = 90.0
#: Time limit for an answer of an agent in the room.
_ANSWER_S = 20.0


class Checker:
    def __init__(
        self,
        options: Options,
        client: api.LiveKitAPI,
        departed: Collection[str],
        tables: Tables,
        report: Report,
    ) -> None:
        """`departed`: the sids of those whose leave LiveKit has reported, also later on."""
        self._options = options
        self._client = client
        self._departed = departed
        self._tables = tables
        self._report = report

    async def pool_is_full(self) -> None:
        """Before a round: as many warm agents wait as are wanted."""

        async def look() -> list[Difference]:
            warm = [one.state for one in await self._tables.open_warm_agents() if one.state != "claimed"]
            if warm == ["waiting"] * self._options.warm:
                return []
            return [Difference(kind="the pool is not full", room="", detail=", ".join(warm))]

        await self._wait_until_clean("in the pool", look, _FILL_S)

    async def at_rest(self, visits: Sequence[Visit]) -> None:
        """Nobody calls, joins or leaves: one agent where people are, and nothing unknown to the tables."""
        wanted = {visit.room for visit in visits if visit.granted}

        async def look() -> list[Difference]:
            rooms, rows = await self._read()
            return differences(rooms, rows, wanted) + await self._of_pool(rooms, rows)

        await self._wait_until_clean("settled", look, self._options.settle_s)
        await asyncio.gather(*(self._ask(visit) for visit in visits if visit.granted))

    async def at_the_end(self) -> None:
        """Everybody has left: every dispatch must end."""

        async def look() -> list[Difference]:
            rooms, rows = await self._read()
            return leftovers(rooms, rows) + await self._of_pool(rooms, rows)

        await self._wait_until_clean("ended", look, self._options.end_s)

    async def _read(self) -> tuple[list[RoomState], list[OpenDispatch]]:
        return await read_rooms(self._client, self._departed), await self._tables.open_dispatches()

    async def _of_pool(self, rooms: Sequence[RoomState], rows: Sequence[OpenDispatch]) -> list[Difference]:
        return pool_differences(rooms, await self._tables.open_warm_agents(), rows, self._options.warm)

    async def webhooks_stored(self, acknowledged: Sequence[str]) -> None:
        """Every webhook that was answered 200 must be in the database."""
        self._report.counts["webhooks acknowledged"] += len(acknowledged)
        for event_id in await self._tables.missing_events(acknowledged):
            self._report.violate("a webhook answered 200 is lost", "", event_id)

    async def _wait_until_clean(
        self, what: str, look: Callable[[], Awaitable[list[Difference]]], within_s: float
    ) -> None:
        began = time.monotonic()
        while found := await look():
            if time.monotonic() - began > within_s:
                await self._report_differences(found, f"still so {within_s:.0f} s after the load stopped")
                return
            await asyncio.sleep(_POLL_S)
        self._report.took(f"until all is {what}", time.monotonic() - began)

    async def _report_differences(self, found: Sequence[Difference], circumstance: str) -> None:
        for difference in found:
            self._report.violate(difference.kind, difference.room, f"{difference.detail}; {circumstance}")
        for room in sorted({difference.room for difference in found}):
            lines = "\n      ".join(await self._tables.room_history(room))
            self._report.violate("(history of the room)", room, f"\n      {lines}")

    async def _ask(self, visit: Visit) -> None:
        question = f"are you there, {visit.person.identity}?"
        began = time.monotonic()
        try:
            await visit.person.ask(question, timeout_s=_ANSWER_S)
        except TimeoutError:
            self._report.violate("an agent that does not answer", visit.room, question)
        self._report.counts["questions answered"] += 1
        self._report.took("until an agent answers", time.monotonic() - began)
