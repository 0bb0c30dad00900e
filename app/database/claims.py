"""Claims: places for agents, counted and taken in one transaction, one agent name at a time."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, select, text

from app.database.tables import claims, dispatches
from app.database.transactions import Transactions
from app.database.worker_tables import warm_agents
from app.database.workers import read_workers
from app.lifecycle import SECOND_US, Policy
from app.lifecycle.warm import WarmState
from app.state.capacity import Claim, Limits, Place, Standing, standings
from app.state.workers import Need, Pool, free_slots

#: How long a granted place is kept for a dispatch that is not stored yet.
_GRANTED_US = Policy.lease_us
#: How long the place of a waiting call in the queue is kept: its process renews it twice a second.
_WAITING_US = 5 * SECOND_US

#: Two replicas must not both count before either has taken.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:agent_name, 3))")
_CLAIM = (
    claims.c.id,
    claims.c.agent_name,
    claims.c.room_name,
    claims.c.requested_by,
    claims.c.asked_at,
)


class Claims:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def take(self, claim: Claim, limits: Limits, now: int, pool: Pool | None = None) -> Standing:
        """Grant the claim if there is a place for it, and nobody waits before it; else store nothing.

        `pool`: the workers that are to take its agent; None: they are no limit.
        """

        def work(connection: Connection) -> Standing:
            _begin(connection, claim.agent_name, now)
            others = [one for one in _waiting(connection, claim.agent_name) if one.id != claim.id]
            taken = places(connection, claim.agent_name)
            found = standings([*others, claim], taken, _with_slots(limits, connection, pool, now))[claim.id]
            if found.blocked_by is None:
                _put(connection, granted=[claim], waiting=[], now=now)
            return found

        return await self._transactions.write(work)

    async def renew(
        self, agent_name: str, own: Sequence[Claim], limits: Limits, now: int, pool: Pool | None = None
    ) -> dict[str, Standing]:
        """Grant those of this process's waiting claims that may have a place, and keep the others waiting."""
        ids = {claim.id for claim in own}

        def work(connection: Connection) -> dict[str, Standing]:
            _begin(connection, agent_name, now)
            others = [one for one in _waiting(connection, agent_name) if one.id not in ids]
            taken = places(connection, agent_name)
            found = standings([*others, *own], taken, _with_slots(limits, connection, pool, now))
            granted = [claim for claim in own if found[claim.id].blocked_by is None]
            _put(connection, granted, [claim for claim in own if claim not in granted], now)
            return {claim.id: found[claim.id] for claim in own}

        return await self._transactions.write(work)

    async def release(self, claim_id: str) -> None:
        """Give up a claim, granted or not."""
        await self._transactions.write(lambda connection: _delete(connection, [claim_id]))


def lock_agent_name(connection: Connection, agent_name: str) -> None:
    """Until the end of the transaction, nobody else counts or takes places for this agent."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"agent_name": agent_name})


def _begin(connection: Connection, agent_name: str, now: int) -> None:
    """Lock the agent name, and delete what has expired: a claim is good for as long as it is stored."""
    lock_agent_name(connection, agent_name)
    expired = (claims.c.agent_name == agent_name) & (claims.c.expires_at <= now)
    connection.execute(delete(claims).where(expired))


def _with_slots(limits: Limits, connection: Connection, pool: Pool | None, now: int) -> Limits:
    if pool is None:
        return limits
    open_ones = select(*(dispatches.c[name] for name in Need._fields)).where(
        dispatches.c.agent_name == pool.agent_name, dispatches.c.ended_at.is_(None)
    )
    needs = [Need(*row) for row in connection.execute(open_ones)]
    free = free_slots(pool, read_workers(connection), needs, now)
    if free is not None:
        # Whoever was granted a place is about to get an agent.
        rooms = {need.room_name for need in needs}
        granted = select(claims.c.room_name).where(
            claims.c.agent_name == pool.agent_name, claims.c.granted_at.is_not(None)
        )
        free = max(0, free - len(set(connection.scalars(granted)) - rooms))
        # An agent that waits has its slot already.
        waiting = select(func.count()).where(
            warm_agents.c.agent_name == pool.agent_name, warm_agents.c.state == WarmState.WAITING
        )
        free += connection.scalar(waiting) or 0
    return replace(limits, free_slots=free)


def places(connection: Connection, agent_name: str) -> list[Place]:
    """In one statement: a claim becomes a dispatch in one step."""
    of_dispatches = select(dispatches.c.room_name, dispatches.c.requested_by).where(
        dispatches.c.agent_name == agent_name, dispatches.c.ended_at.is_(None)
    )
    of_claims = select(claims.c.room_name, claims.c.requested_by).where(
        claims.c.agent_name == agent_name, claims.c.granted_at.is_not(None)
    )
    return [Place(*row) for row in connection.execute(of_dispatches.union(of_claims))]


def _waiting(connection: Connection, agent_name: str) -> Iterable[Claim]:
    query = select(*_CLAIM).where(claims.c.agent_name == agent_name, claims.c.granted_at.is_(None))
    return [Claim(**row) for row in connection.execute(query).mappings()]


def _put(connection: Connection, granted: Sequence[Claim], waiting: Sequence[Claim], now: int) -> None:
    rows = [
        *(_row(claim) | {"granted_at": now, "expires_at": now + _GRANTED_US} for claim in granted),
        *(_row(claim) | {"granted_at": None, "expires_at": now + _WAITING_US} for claim in waiting),
    ]
    _delete(connection, [row["id"] for row in rows])
    connection.execute(insert(claims), rows)


def _row(claim: Claim) -> dict[str, object]:
    return {column.name: getattr(claim, column.name) for column in _CLAIM}


def _delete(connection: Connection, ids: Collection[object]) -> None:
    connection.execute(delete(claims).where(claims.c.id.in_(ids)))
