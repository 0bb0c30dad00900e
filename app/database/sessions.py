"""Sessions of the dashboard that were signed out: a cookie that somebody has copied is none any more."""

from sqlalchemy import Connection, insert, select

from app.database.tables import ended_sessions
from app.database.transactions import Transactions


class EndedSessions:
    """The table `ended_sessions`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, session_id: str, expires_at: int) -> None:
        """Sign out a session; to sign it out again changes nothing."""

        def work(connection: Connection) -> None:
            if not _is_in(connection, session_id):
                connection.execute(insert(ended_sessions).values(id=session_id, expires_at=expires_at))

        await self._transactions.write(work)

    async def has(self, session_id: str) -> bool:
        return await self._transactions.read(lambda connection: _is_in(connection, session_id))


def _is_in(connection: Connection, session_id: str) -> bool:
    query = select(ended_sessions.c.expires_at).where(ended_sessions.c.id == session_id)
    return connection.execute(query).first() is not None
