"""The rows of warm agents: each change is one statement that finds the row as it was, or does nothing."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, insert, or_, select, update

from app.database.claims import lock_agent_name, places
from app.database.statements import batch_sql
from app.database.tables import dispatches
from app.database.transactions import Transactions
from app.database.usage import warm_usage_rows
from app.database.worker_tables import warm_agents
from app.lifecycle import Dispatch, State
from app.lifecycle.warm import (
    HOLDING_PREFIX,
    POOLED,
    WarmAgent,
    WarmEnd,
    WarmEvent,
    WarmSignal,
    WarmState,
    decide_warm,
)

_COLUMNS = tuple(entry.name for entry in fields(WarmAgent))
_IS_OPEN = warm_agents.c.ended_at.is_(None)
_ALL = [warm_agents.c[name] for name in _COLUMNS]
#: Both databases take as many parameters in one statement.
_MOST_DOUBTFUL = 10_000


class WarmAgents:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def open(self) -> list[WarmAgent]:
        """Those that have not ended, the oldest first."""
        return await self._read(select(*_ALL).where(_IS_OPEN).order_by(warm_agents.c.created_at))

    async def recent(self, agent_name: str, deployment: str, limit: int) -> list[WarmAgent]:
        """The newest first, also ended ones."""
        own = (warm_agents.c.agent_name == agent_name, warm_agents.c.deployment == deployment)
        newest_first = warm_agents.c.created_at.desc()
        return await self._read(select(*_ALL).where(*own).order_by(newest_first).limit(limit))

    async def count_made(self, agent_name: str, since: int, until: int) -> int:
        """How many were made in this time, without those of a clock that was ahead."""
        at = warm_agents.c.created_at
        # A restored one was not made then.
        is_new = or_(warm_agents.c.ready_at.is_not(None), warm_agents.c.claimed_by.is_(None))
        made = and_(warm_agents.c.agent_name == agent_name, at > since, at <= until, is_new)
        query = select(func.count()).select_from(warm_agents).where(made)
        return await self._transactions.read(lambda connection: connection.scalar(query) or 0)

    async def known(self, ids: Collection[str]) -> dict[str, WarmAgent]:
        """Those of these ids that are stored, also ended ones."""
        found = await self._read(select(*_ALL).where(warm_agents.c.id.in_(ids)))
        return {agent.id: agent for agent in found}

    async def of_dispatch(self, dispatch: Dispatch) -> WarmAgent | None:
        """The one that the dispatch has claimed; None: it has none, or that one has ended."""
        found = await self._read(select(*_ALL).where(warm_agents.c.claimed_by == dispatch.id, _IS_OPEN))
        return found[0] if found else None

    async def taken(self, agent_name: str) -> int:
        """How many rooms have an agent of this name, or are about to get one."""
        return await self._transactions.read(lambda connection: _taken(connection, agent_name))

    async def add(self, agents: Sequence[WarmAgent], max_agents: int | None) -> Sequence[WarmAgent]:
        """Store new ones of one agent name, as far as its limit allows beside what lives; returns these."""
        agent_name = agents[0].agent_name

        def work(connection: Connection) -> Sequence[WarmAgent]:
            lock_agent_name(connection, agent_name)
            added = agents
            if max_agents is not None:
                is_pooled = and_(
                    warm_agents.c.agent_name == agent_name, _IS_OPEN, warm_agents.c.claimed_by.is_(None)
                )
                pooled = connection.scalar(select(func.count()).select_from(warm_agents).where(is_pooled))
                taken = _taken(connection, agent_name) + (pooled or 0)
                added = agents[: max(0, max_agents - taken)]
            if added:
                connection.execute(insert(warm_agents), [_values(agent) for agent in added])
            return added

        return await self._transactions.write(work)

    async def advance(self, agent: WarmAgent, signal: WarmSignal, now: int) -> WarmAgent | None:
        """Apply a signal to an agent; None if it is stale, or the row has changed."""
        after = decide_warm(agent, signal, now)
        if after is agent:
            return None

        def work(connection: Connection) -> WarmAgent | None:
            return after if _change(connection, agent, after) else None

        return await self._transactions.write(work)

    async def claim(self, dispatch: Dispatch, now: int, doubtful: Collection[str] = ()) -> WarmAgent | None:
        """Give the creating dispatch the one that has waited longest, of its name and deployment.

        Not one of the `doubtful`, by the ids of their dispatches.

        Both rows are changed together: after a crash the dispatch knows its holding room. None: none waits,
        or the dispatch is not creating any more.
        """
        waiting = (
            select(*_ALL)
            .where(
                warm_agents.c.agent_name == dispatch.agent_name,
                warm_agents.c.deployment == dispatch.briefing.deployment,
                warm_agents.c.state == WarmState.WAITING,
                warm_agents.c.dispatch_id.not_in(sorted(doubtful)[:_MOST_DOUBTFUL]),
            )
            .order_by(warm_agents.c.ready_at, warm_agents.c.id)
            .limit(1)
            # Two replicas take two different ones.
            .with_for_update(skip_locked=True)
        )
        is_free = and_(
            dispatches.c.id == dispatch.id,
            dispatches.c.state == State.CREATING,
            dispatches.c.holding_room.is_(None),
        )

        def work(connection: Connection) -> WarmAgent | None:
            found = connection.execute(waiting).first()
            if found is None:
                return None
            agent = _agent_of(found)
            assigned = update(dispatches).where(is_free).values(holding_room=agent.room_name)
            if not connection.execute(assigned).rowcount:
                return None
            claimed = decide_warm(agent, WarmSignal(event=WarmEvent.CLAIMED, claimed_by=dispatch.id), now)
            _change(connection, agent, claimed)
            return claimed

        return await self._transactions.write(work)

    async def restore(self, agent_name: str) -> None:
        """Store as claimed those that the rows of open dispatches name."""
        open_ones = select(dispatches).where(
            dispatches.c.agent_name == agent_name,
            dispatches.c.ended_at.is_(None),
            dispatches.c.holding_room.is_not(None),
            dispatches.c.dispatch_id.is_not(None),
        )

        def work(connection: Connection) -> None:
            # Two replicas must not both store one.
            lock_agent_name(connection, agent_name)
            claimed = [_claimed_by(row) for row in connection.execute(open_ones).mappings()]
            is_one = warm_agents.c.id.in_([agent.id for agent in claimed])
            states = select(warm_agents.c.id, warm_agents.c.state).where(is_one)
            stored = {row.id: row.state for row in connection.execute(states)}
            if missing := [_values(agent) for agent in claimed if agent.id not in stored]:
                connection.execute(insert(warm_agents), missing)
            for agent in claimed:
                if stored.get(agent.id) in POOLED:
                    # In a backup from before its claim.
                    known = warm_agents.c.id == agent.id
                    connection.execute(update(warm_agents).where(known).values(**_values(agent)))

        await self._transactions.write(work)

    async def part(self, dispatch: Dispatch, agent: WarmAgent | None, now: int) -> None:
        """Take from the dispatch the agent that does not come to it, and whose holding room is gone.

        It may be in the room of the dispatch for a moment more: it is noted as the agent from before. None:
        it has ended before.
        """
        own = and_(dispatches.c.id == dispatch.id, dispatches.c.dispatch_id.is_(None))
        former = {"former_agent": agent.agent_identity} if agent else {}
        freed = update(dispatches).where(own).values(holding_room=None, **former)

        def work(connection: Connection) -> None:
            connection.execute(freed)
            if agent:
                dismissed = WarmSignal(event=WarmEvent.DISMISSED, reason=WarmEnd.CLAIM_FAILED)
                ending = decide_warm(agent, dismissed, now)
                _change(connection, agent, decide_warm(ending, WarmSignal(event=WarmEvent.REMOVED), now))

        await self._transactions.write(work)

    async def _read(self, query: Any) -> list[WarmAgent]:
        def work(connection: Connection) -> list[WarmAgent]:
            return [_agent_of(row) for row in connection.execute(query)]

        return await self._transactions.read(work)


def _claimed_by(dispatch: RowMapping) -> WarmAgent:
    """The warm agent that a dispatch's row tells of; when it was made is not known."""
    return WarmAgent(
        id=dispatch["holding_room"].removeprefix(HOLDING_PREFIX),
        agent_name=dispatch["agent_name"],
        deployment=dispatch["deployment"],
        state=WarmState.CLAIMED,
        dispatch_id=dispatch["dispatch_id"],
        agent_identity=dispatch["agent_identity"],
        claimed_by=dispatch["id"],
        created_at=dispatch["created_at"],
        claimed_at=dispatch["created_at"],
    )


def _taken(connection: Connection, agent_name: str) -> int:
    return len({place.room_name for place in places(connection, agent_name)})


def _change(connection: Connection, before: WarmAgent, after: WarmAgent) -> bool:
    """False if the row has changed: every change is one of its state."""
    as_it_was = and_(warm_agents.c.id == before.id, warm_agents.c.state == before.state)
    changed = connection.execute(update(warm_agents).where(as_it_was).values(**_values(after)))
    if changed.rowcount and before.waited_until is None and after.waited_until is not None:
        sql = batch_sql(connection)
        if spent := list(warm_usage_rows(after, after.waited_until)):
            sql.put(connection, sql.add_usage, spent)
    return bool(changed.rowcount)


def _values(agent: WarmAgent) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in _COLUMNS}


def _agent_of(row: Sequence[Any]) -> WarmAgent:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = WarmState(values["state"])
    values["end_reason"] = WarmEnd(values["end_reason"]) if values["end_reason"] else None
    return WarmAgent(**values)
