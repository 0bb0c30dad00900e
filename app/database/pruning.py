"""Pruning: what is deleted when it is old."""

from sqlalchemy import Connection, delete, select

from app.database.tables import (
    claims,
    dispatches,
    ended_sessions,
    history,
    participants,
    rooms,
    webhook_events,
)
from app.database.worker_tables import warm_agents


def prune(connection: Connection, before: int) -> int:
    """Delete rows that ended, left or were received before `before`; returns their number."""
    ended = select(dispatches.c.id).where(dispatches.c.ended_at < before)
    finished = select(rooms.c.sid).where(rooms.c.finished_at < before)
    statements = [
        delete(webhook_events).where(webhook_events.c.received_at < before),
        delete(history).where(history.c.dispatch_row_id.in_(ended)),
        delete(dispatches).where(dispatches.c.ended_at < before),
        delete(participants).where(participants.c.left_at < before),
        delete(participants).where(participants.c.room_sid.in_(finished)),
        delete(rooms).where(rooms.c.finished_at < before),
        # Of an agent name that is not in use any more; others are deleted by the next call.
        delete(claims).where(claims.c.expires_at < before),
        delete(warm_agents).where(warm_agents.c.ended_at < before),
        delete(ended_sessions).where(ended_sessions.c.expires_at < before),
    ]
    return sum(connection.execute(statement).rowcount for statement in statements)
