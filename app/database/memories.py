"""The memories of conversations: who may save which, until when; their content is encrypted before."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, insert, not_, null, select, update

from app.database.statements import batch_sql
from app.database.tables import dispatches, memories
from app.database.transactions import Transactions
from app.errors import MemoryForgotten, MemoryTaken
from app.lifecycle import EndReason, State
from app.lifecycle.conversation import may_converse
from app.state.memory import Conversation, Sealed

#: By the room's name first, which has an index.
_OPEN_DISPATCH = exists().where(
    dispatches.c.room_name == memories.c.room_name,
    dispatches.c.room_sid == memories.c.room_sid,
    dispatches.c.agent_name == memories.c.agent_name,
    dispatches.c.ended_at.is_(None),
)


class Memories:
    """Every method raises `DatabaseUnavailable` during an outage of the database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def load(
        self, conversation: Conversation, job_id: str, dispatch_id: str, *, now: int, expires_at: int
    ) -> tuple[Sealed, int] | None:
        """What is saved, and when it was; from now on only this job can save.

        `expires_at`: for a conversation that is new.

        Raises:
            MemoryForgotten: the dispatch of the job has ended.
        """

        def work(connection: Connection) -> tuple[Sealed, int] | None:
            # A dispatch that ends now forgets before or after, never beside.
            batch_sql(connection).lock(connection, [conversation.room_name])
            _require_live(connection, dispatch_id)
            row = connection.execute(select(memories).where(_is(conversation)).with_for_update()).first()
            if row is None:
                fresh = {"job_id": job_id, "number": 0, "expires_at": expires_at}
                connection.execute(insert(memories).values(**asdict(conversation), **fresh))
                return None
            if row.job_id != job_id:
                taken = update(memories).where(_is(conversation)).values(job_id=job_id, number=0)
                connection.execute(taken)
            if row.ciphertext is None or row.expires_at <= now:
                return None
            return Sealed(key_id=row.key_id, ciphertext=row.ciphertext), row.saved_at

        return await self._transactions.write(work)

    async def save(
        self,
        conversation: Conversation,
        job_id: str,
        number: int,
        sealed: Sealed,
        *,
        now: int,
        expires_at: int,
    ) -> bool:
        """Store what the job saves; False if it has saved that already, or something newer.

        `number`: grows with each save of a job.

        Raises:
            MemoryForgotten, MemoryTaken: the job may not save.
        """
        is_next = and_(_is(conversation), memories.c.job_id == job_id, memories.c.number < number)
        values = {"key_id": sealed.key_id, "ciphertext": sealed.ciphertext, "number": number}
        stored = update(memories).where(is_next).values(saved_at=now, expires_at=expires_at, **values)

        def work(connection: Connection) -> bool:
            if connection.execute(stored).rowcount:
                return True
            _require_owner(connection, conversation, job_id)
            return False

        return await self._transactions.write(work)

    async def forget(self, conversation: Conversation, job_id: str) -> bool:
        """Forget what the job has saved, and save nothing more for it; False if there was nothing.

        Raises:
            MemoryTaken: the conversation is another job's.
        """

        def work(connection: Connection) -> bool:
            own = delete(memories).where(_is(conversation), memories.c.job_id == job_id)
            if connection.execute(own).rowcount:
                return True
            if connection.execute(select(memories.c.job_id).where(_is(conversation))).first():
                raise MemoryTaken("Another agent has taken over the conversation")
            return False

        return await self._transactions.write(work)

    async def forget_room(self, room_name: str, agent_name: str | None) -> int:
        """Forget the conversations in all rooms of this name; `agent_name` None: those of all agents."""
        named = delete(memories).where(memories.c.room_name == room_name)
        if agent_name is not None:
            named = named.where(memories.c.agent_name == agent_name)
        return await self._transactions.write(lambda connection: connection.execute(named).rowcount)

    async def expire(self, now: int) -> int:
        """Forget what has expired; returns the number of memories.

        The row of a conversation that may go on stays, empty: its agent can still save.
        """
        is_old = memories.c.expires_at <= now
        emptied = {"ciphertext": null(), "key_id": null(), "saved_at": null()}

        def work(connection: Connection) -> int:
            old = update(memories).where(is_old, memories.c.ciphertext.is_not(None)).values(**emptied)
            count = connection.execute(old).rowcount
            connection.execute(delete(memories).where(is_old, not_(_OPEN_DISPATCH)))
            return count

        return await self._transactions.write(work)

    async def clear(self) -> None:
        """Forget everything."""
        await self._transactions.write(lambda connection: connection.execute(delete(memories)).rowcount)


def _is(conversation: Conversation) -> Any:
    return and_(
        memories.c.room_sid == conversation.room_sid, memories.c.agent_name == conversation.agent_name
    )


def _require_live(connection: Connection, dispatch_id: str) -> None:
    """Raises: MemoryForgotten: the dispatch has ended; one that is not known may be on its way."""
    query = select(dispatches.c.state, dispatches.c.end_reason).where(dispatches.c.dispatch_id == dispatch_id)
    for state, end_reason in connection.execute(query):
        if not may_converse(State(state), EndReason(end_reason) if end_reason else None):
            raise MemoryForgotten("The dispatch of this job has ended")


def _require_owner(connection: Connection, conversation: Conversation, job_id: str) -> None:
    owner = connection.scalar(select(memories.c.job_id).where(_is(conversation)))
    if owner is None:
        raise MemoryForgotten("The conversation is over, or was forgotten")
    if owner != job_id:
        raise MemoryTaken("Another agent has taken over the conversation")
