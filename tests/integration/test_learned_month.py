"""A month of visits: the learned TTL converges, follows longer absences at once, and comes back in time.

The real processor, database and policies; LiveKit's part is told to them, so that a month takes seconds.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.config.agents import AgentPolicy, LearnedTtl
from app.control.processor import advance_of
from app.control.requests import AgentRequest
from app.lifecycle import SECOND_US, Dispatch, Event, Signal, State
from app.state.changes import Due, Intent, RoomEvent, RoomEventKind
from app.state.presence import Participant, ParticipantKind, Room
from integration.conftest import StartApp
from integration.harness import AGENT, App

DAY_S, DAYS = 86_400, 30
ROOMS = [Room(name=f"room-{number}", sid=f"RM_{number}", created_at=1) for number in range(8)]
DEFAULT_S = 300
AUTO = AgentPolicy(
    ttl_s=DEFAULT_S, join_timeout_s=15, learned=LearnedTtl(ttl_min_s=10, ttl_max_s=900, ttl_keep=0.95)
)
#: How long people stay away: they reload the page; on three days they look something up.
SHORT_S, LONG_S = (5, 12, 25, 40), (200, 290, 380, 480)
LONG_DAYS = range(9, 12)


@dataclass(frozen=True, kw_only=True)
class Day:
    #: That of the dispatches of the next day.
    ttl_s: float
    kept: int
    lost: int


@dataclass
class House:
    """The rooms, and what LiveKit would report of them."""

    app: App
    rows: dict[str, Dispatch] = field(default_factory=dict)
    sids: dict[str, str] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=itertools.count)

    @property
    def ttl_s(self) -> float:
        """That of new dispatches."""
        return self.app.service.policies.lifecycle.agents[AGENT].ttl_us / SECOND_US

    async def wait(self, seconds: float) -> None:
        """Deadlines that pass end their agents."""
        self.app.world.clock.advance(seconds)
        processor = self.app.service.processor
        dues = [Due(room_name=row.room_name, row_id=row.id) for row in self.rows.values()]
        outcomes = await processor.submit(*dues)
        ending = [one.dispatch for one in outcomes if one.dispatch and one.dispatch.state is State.ENDING]
        if ending:
            await processor.submit(*(advance_of(row, Signal(event=Event.REMOVED)) for row in ending))

    async def call(self, rooms: Sequence[Room]) -> None:
        processor, now = self.app.service.processor, self.app.world.clock.now()
        requests = [(room, AgentRequest(room_name=room.name, agent_name=AGENT)) for room in rooms]
        outcomes = await processor.submit(
            *(Intent(dispatch=one.intended(room, now), room=room, generation=0) for room, one in requests)
        )
        steps = []
        for row in (one.dispatch for one in outcomes if one.dispatch and one.applied):
            self.rows[row.room_name] = row
            dispatched = Signal(event=Event.DISPATCHED, dispatch_id=f"AD_{row.id}", dispatched_at=now)
            joined = Signal(event=Event.AGENT_IN, agent_identity=f"agent-{row.id}")
            steps += [advance_of(row, dispatched), advance_of(row, joined)]
        await processor.submit(*steps)

    async def come(self, rooms: Sequence[Room]) -> None:
        await self.call(rooms)
        await self._report(RoomEventKind.JOINED, rooms)

    async def go(self) -> None:
        await self._report(RoomEventKind.LEFT, ROOMS)

    async def _report(self, kind: RoomEventKind, rooms: Sequence[Room]) -> None:
        events = [
            RoomEvent(
                event_id=f"EV_{next(self.ids)}", kind=kind, room=room, participant=self._person(kind, room)
            )
            for room in rooms
        ]
        await self.app.service.processor.submit(*events)

    def _person(self, kind: RoomEventKind, room: Room) -> Participant:
        """A new one at each join."""
        if kind is RoomEventKind.JOINED:
            self.sids[room.name] = f"PA_{next(self.ids)}"
        return Participant(sid=self.sids[room.name], kind=ParticipantKind.PERSON, identity="alice")


async def a_day(house: House, absences_s: Sequence[int]) -> Day:
    """Each room has one visit and one return; the agents end with their TTL."""
    returns = house.app.service.counters.returns
    kept, lost = returns[AGENT, "kept"], returns[AGENT, "lost"]
    await house.come(ROOMS)
    await house.wait(600)
    await house.go()
    passed_s, ttl_s = 0.0, house.ttl_s
    for moment_s in sorted({ttl_s, *absences_s}):
        await house.wait(moment_s - passed_s)
        passed_s = moment_s
        if back := [room for room, one in zip(ROOMS, absences_s, strict=True) if one == moment_s]:
            await house.come(back)
    await house.wait(600)
    await house.go()
    await house.wait(ttl_s)
    await house.wait(DAY_S - passed_s - ttl_s - 1_200)
    await house.app.service.learning.refresh()
    return Day(ttl_s=house.ttl_s, kept=returns[AGENT, "kept"] - kept, lost=returns[AGENT, "lost"] - lost)


async def test_a_month(start_app: StartApp) -> None:
    house = House(await start_app(agents={AGENT: AUTO}, liveness_interval_s=0))
    month = [await a_day(house, (LONG_S if day in LONG_DAYS else SHORT_S) * 2) for day in range(DAYS)]

    # The default, until the returns of three days have come.
    assert [day.ttl_s for day in month[:2]] == [DEFAULT_S] * 2
    # Then hardly longer than people stay away.
    learned_s = {day.ttl_s for day in month[3 : LONG_DAYS.start]}
    assert len(learned_s) == 1
    assert all(max(SHORT_S) <= one_s <= 1.5 * max(SHORT_S) for one_s in learned_s)
    # One day of longer absences costs their agents, and is enough.
    assert [day.lost for day in month if day.lost] == [month[LONG_DAYS.start].lost] == [len(ROOMS)]
    assert month[LONG_DAYS.start].ttl_s >= max(LONG_S)
    # It gets shorter as these days weigh less, and ends where it was.
    later_s = [day.ttl_s for day in month[LONG_DAYS.start :]]
    assert later_s == sorted(later_s, reverse=True)
    assert later_s[-1] in learned_s
    assert sum(day.kept + day.lost for day in month) == DAYS * len(ROOMS)
