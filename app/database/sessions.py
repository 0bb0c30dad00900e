"""Sessions of the dashboard that were signed out: a cookie that somebody has copied is none any more."""

from sqlalchemy import Connection, Select, insert, select

from app.database.tables import ended_sessions


def end_session(connection: Connection, session_id: str, expires_at: int) -> None:
    """Note the end; to note it again changes nothing."""
    if connection.execute(ended_session(session_id)).first() is None:
        connection.execute(insert(ended_sessions).values(id=session_id, expires_at=expires_at))


def ended_session(session_id: str) -> Select[tuple[int]]:
    return select(ended_sessions.c.expires_at).where(ended_sessions.c.id == session_id)
