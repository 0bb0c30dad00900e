"""The store: one transaction for a batch of changes, and all reads; the same code for SQLite and Postgres."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.claims import Claims
from app.database.deliveries import Deliveries
from app.database.events import EventLog
from app.database.loading import dispatch_of, load, participant_of, save
from app.database.memories import Memories
from app.database.pruning import prune
from app.database.returns import ReturnCounts
from app.database.room_views import room_view
from app.database.sessions import EndedSessions
from app.database.tables import dispatches, history, participants, rooms, webhook_events
from app.database.transactions import TIMEOUT_S, Transactions
from app.database.usage import UsageTable
from app.database.vacancies import vacant_rooms
from app.database.warm_agents import WarmAgents
from app.database.workers import WorkersTable
from app.database.write_outage import store_trial_rows
from app.lifecycle import LIVE_STATES, Dispatch, Policy, State
from app.state.changes import Change, Outcome
from app.state.presence import ParticipantKind
from app.state.unit_of_work import UnitOfWork
from app.state.views import AlertFacts, Company, Deadline, HistoryLine, KnownRoom, RoomView, Visit

T = TypeVar("T")

#: For statements over whole tables: the pruning after a long stop, and reads of all rows.
_FULL_TABLE_TIMEOUT_S = 60.0

#: Uses an index; a condition on the state would not.
_IS_OPEN = dispatches.c.ended_at.is_(None)


class Store:
    """Reads and commits; every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, engine: AsyncEngine, *, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s`: for a transaction, with all its attempts."""
        self._transactions = Transactions(engine, timeout_s=timeout_s)
        self.file = self._transactions.file
        self.returns = ReturnCounts(self._transactions)
        self.claims = Claims(self._transactions)
        self.usage = UsageTable(self._transactions)
        self.sessions = EndedSessions(self._transactions)
        self.memories = Memories(self._transactions)
        self.workers = WorkersTable(self._transactions)
        self.warm_agents = WarmAgents(self._transactions)
        self.events = EventLog(self._transactions)
        self.deliveries = Deliveries(self._transactions)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of all transactions; tests inject faults there."""
        return self._transactions.engines

    async def close(self) -> None:
        await self._transactions.close()

    def exclusive(self, name: str) -> AbstractAsyncContextManager[bool]:
        """Try-lock: yields True if this process holds the advisory lock `name`."""
        return self._transactions.exclusive(name)

    async def commit(self, changes: Sequence[Change], new_unit: Callable[[], UnitOfWork]) -> list[Outcome]:
        """Apply all changes in one transaction, in order; none is applied when this raises."""

        def work(connection: Connection) -> list[Outcome]:
            # A new unit for each attempt: one that was rolled back has changed its unit.
            unit = new_unit()
            load(connection, changes, unit)
            outcomes = [unit.apply(change) for change in changes]
            save(connection, unit)
            return outcomes

        return await self._transactions.write(work)

    async def room(self, room_name: str) -> RoomView:
        return await self._transactions.read(lambda connection: room_view(connection, room_name))

    async def dispatch(self, row_id: str) -> Dispatch | None:
        return await self._one(select(dispatches).where(dispatches.c.id == row_id))

    async def live(self) -> list[Dispatch]:
        return await self._all(select(dispatches).where(_IS_OPEN, dispatches.c.state.in_(LIVE_STATES)))

    async def to_probe(self) -> list[Dispatch]:
        """The dispatches whose agents have people in the room, or have not answered yet."""
        is_unready = and_(dispatches.c.state == State.IDLE, dispatches.c.ready_at.is_(None))
        is_active = dispatches.c.state == State.ACTIVE
        return await self._all(select(dispatches).where(_IS_OPEN, or_(is_active, is_unready)))

    async def vacant_rooms(self, room_name: str | None = None) -> set[str]:
        """Those with a dispatch whose agent is not in, as far as the tables know; None: of all rooms."""
        return set(await self._read(vacant_rooms(room_name), lambda row: str(row.room_name)))

    async def find_dispatch(self, dispatch_id: str) -> Dispatch | None:
        """Find by LiveKit's id or by the row's id; only the latter exists before LiveKit has the dispatch."""
        if "\0" in dispatch_id:
            # Postgres rejects NUL in a parameter.
            return None
        named = or_(dispatches.c.dispatch_id == dispatch_id, dispatches.c.id == dispatch_id)
        return await self._one(select(dispatches).where(named))

    async def deadlines(self) -> list[Deadline]:
        """All deadlines, earliest first."""
        return await self._deadlines(dispatches.c.due_at.is_not(None))

    async def deadlines_until(self, now: int) -> list[Deadline]:
        """The deadlines that have passed, earliest first."""
        return await self._deadlines(dispatches.c.due_at <= now)

    async def known_rooms(self) -> dict[str, KnownRoom]:
        """Every room that has not finished, by name."""
        columns = (participants.c.room_sid, participants.c.sid, participants.c.kind, participants.c.identity)
        is_in = and_(participants.c.room_sid == rooms.c.sid, participants.c.left_at.is_(None))
        present = select(*columns).join(rooms, is_in).where(rooms.c.finished_at.is_(None))
        tracked = select(dispatches).where(_IS_OPEN)
        unfinished = select(rooms.c.name, rooms.c.sid, rooms.c.generation)

        def work(connection: Connection) -> dict[str, KnownRoom]:
            sids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
            rows: defaultdict[str, list[Dispatch]] = defaultdict(list)
            for room_sid, sid, kind, identity in connection.execute(present):
                sids[room_sid, kind].add(identity if kind == ParticipantKind.AGENT else sid)
            for row in connection.execute(tracked):
                rows[row.room_sid].append(dispatch_of(row))
            return {
                name: KnownRoom(
                    name=name,
                    sid=sid,
                    generation=generation,
                    people=frozenset(sids[sid, ParticipantKind.PERSON]),
                    agents=frozenset(sids[sid, ParticipantKind.AGENT]),
                    rows=tuple(rows[sid]),
                )
                for name, sid, generation in connection.execute(
                    unfinished.where(rooms.c.finished_at.is_(None))
                )
            }

        return await self._transactions.read(work, timeout_s=_FULL_TABLE_TIMEOUT_S)

    async def list_dispatches(
        self,
        states: Iterable[State],
        after: tuple[int, str] | None,
        limit: int,
        *,
        room_name: str | None = None,
        agent_name: str | None = None,
    ) -> list[Dispatch]:
        """Newest first, starting behind `after` (creation time and row id)."""
        query = select(dispatches).where(dispatches.c.state.in_(list(states)))
        if room_name is not None:
            query = query.where(dispatches.c.room_name == room_name)
        if agent_name is not None:
            query = query.where(dispatches.c.agent_name == agent_name)
        if after:
            created_at, row_id = after
            query = query.where(
                or_(
                    dispatches.c.created_at < created_at,
                    and_(dispatches.c.created_at == created_at, dispatches.c.id < row_id),
                )
            )
        order = (dispatches.c.created_at.desc(), dispatches.c.id.desc())
        return await self._all(query.order_by(*order).limit(limit))

    async def recently_ended(self, limit: int) -> list[Dispatch]:
        """Latest first."""
        ended = select(dispatches).where(dispatches.c.ended_at.is_not(None))
        return await self._all(ended.order_by(dispatches.c.ended_at.desc()).limit(limit))

    async def count_open(self) -> dict[str, int]:
        """The number of open dispatches by state."""
        counted = select(dispatches.c.state, func.count().label("number")).where(_IS_OPEN)
        rows = await self._rows(counted.group_by(dispatches.c.state))
        return {row.state: row.number for row in rows}

    async def facts(self, stuck_after: int) -> AlertFacts:
        """The facts for the alerts; after `stuck_after` failed removals a dispatch is stuck."""
        state, attempt = dispatches.c.state, dispatches.c.attempt
        is_stuck = and_(state.in_((State.IDLE, State.ENDING)), dispatches.c.cleanup_failures >= stuck_after)
        # A retried dispatch is creating or starting most of the time, and unavailable in between.
        is_retried = and_(state.in_((State.CREATING, State.STARTING)), attempt > Policy.max_attempts)
        is_unserved = and_(dispatches.c.participant_count > 0, or_(state == State.UNAVAILABLE, is_retried))
        troubled = await self._all(select(dispatches).where(_IS_OPEN, or_(is_stuck, is_unserved)))
        received = await self._rows(select(func.max(webhook_events.c.received_at)))
        return AlertFacts(
            agents=await self.count_open(),
            stuck=tuple(row for row in troubled if row.state in (State.IDLE, State.ENDING)),
            unserved=tuple(row for row in troubled if row.state not in (State.IDLE, State.ENDING)),
            last_webhook_at=received[0][0],
        )

    async def last_change(self) -> int:
        """The id of the newest line of history; every change of a dispatch adds a line."""
        return (await self._rows(select(func.max(history.c.id))))[0][0] or 0

    async def changed_since(self, number: int) -> list[Dispatch]:
        """The dispatches with a line of history after `number`.

        A line gets its id before its commit: it may become visible after a line with a higher id.
        """
        changed = select(history.c.dispatch_row_id).where(history.c.id > number)
        return await self._all(select(dispatches).where(dispatches.c.id.in_(changed)))

    async def history(self, row_id: str) -> list[HistoryLine]:
        query = select(history).where(history.c.dispatch_row_id == row_id).order_by(history.c.id)
        return [
            HistoryLine(
                at=row.at,
                event=row.event,
                from_state=row.from_state,
                to_state=row.to_state,
                people=row.people,
            )
            for row in await self._rows(query)
        ]

    async def end_dead_leases(self, now: int) -> None:
        """End all leases on an unshared database: their holders died before this process started."""
        if self._transactions.is_shared:
            return
        leased = dispatches.c.state.in_((State.CREATING, State.ENDING))
        ended = update(dispatches).where(leased).values(retry_at=now, due_at=now)
        await self._transactions.write(lambda connection: connection.execute(ended).rowcount)

    async def company(self, room_sid: str, agent_identity: str, since: int) -> Company:
        """An agent and the visits of people from `since`, when it joined by our clock, until now."""
        kind, left_at = participants.c.kind, participants.c.left_at
        is_visit = and_(kind == ParticipantKind.PERSON, or_(left_at.is_(None), left_at >= since))
        columns = (*(participants.c[name] for name in Visit._fields), kind, participants.c.is_announced)
        query = select(*columns).where(
            participants.c.room_sid == room_sid, or_(is_visit, participants.c.identity == agent_identity)
        )
        rows = await self._rows(query)
        own = [row for row in rows if row.kind == ParticipantKind.AGENT]
        return Company(
            # It may have connected several times.
            agent_joined_at=min((row.joined_at for row in own if row.joined_at), default=None),
            is_announced=any(row.is_announced for row in own),
            visits=tuple(
                Visit(*row[: len(Visit._fields)]) for row in rows if row.kind == ParticipantKind.PERSON
            ),
        )

    async def departed(self, room_sid: str, sids: Collection[str]) -> frozenset[str]:
        """Those of these agents and avatars whose leave LiveKit has reported."""
        known = select(participants).where(participants.c.room_sid == room_sid, participants.c.sid.in_(sids))
        return frozenset(one.sid for one in map(participant_of, await self._rows(known)) if one.has_departed)

    async def prune(self, before: int) -> int:
        """Delete rows that ended, left or were received before `before`; returns their number."""
        return await self._transactions.write(lambda one: prune(one, before), timeout_s=_FULL_TABLE_TIMEOUT_S)

    async def store_trial_rows(self, trial: str) -> None:
        await self._transactions.write(lambda connection: store_trial_rows(connection, trial))

    async def ping(self) -> None:
        await self.file.look()
        await self._rows(select(1))

    async def _deadlines(self, condition: Any) -> list[Deadline]:
        columns = (dispatches.c.id, dispatches.c.room_name, dispatches.c.due_at)
        query = select(*columns).where(condition).order_by(dispatches.c.due_at)
        return await self._read(query, Deadline._make, timeout_s=_FULL_TABLE_TIMEOUT_S)

    async def _one(self, query: Any) -> Dispatch | None:
        found = await self._all(query.limit(1))
        return found[0] if found else None

    async def _all(self, query: Any) -> list[Dispatch]:
        return await self._read(query, dispatch_of)

    async def _rows(self, query: Any) -> list[Row[Any]]:
        return await self._read(query, lambda row: row)

    async def _read(
        self, query: Any, make: Callable[[Row[Any]], T], *, timeout_s: float | None = None
    ) -> list[T]:
        """Run the query and `make` each row in the database thread, off the event loop."""

        def work(connection: Connection) -> list[T]:
            return [make(row) for row in connection.execute(query)]

        return await self._transactions.read(work, timeout_s=timeout_s)
