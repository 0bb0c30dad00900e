"""Memories of conversations: what an agent's helper saves, for the agent that goes on with it."""

import logging
from collections.abc import Sequence

from app.clock import Clock
from app.control.memory_cipher import MemoryCipher, UnreadableMemory
from app.database.memories import Memories
from app.errors import MemoryForgotten, MemoryOff, MemoryTaken
from app.lifecycle import SECOND_US
from app.metrics.counters import Counters
from app.state.memory import Conversation, Memory

logger = logging.getLogger(__name__)


class ConversationMemory:
    """Every method but `prune` raises MemoryOff if no memories are kept.

    All raise DatabaseUnavailable during an outage. What is stored is in no log, page or metric.
    """

    def __init__(
        self,
        table: Memories,
        clock: Clock,
        counters: Counters,
        secrets: Sequence[str],
        *,
        is_on: bool,
        ttl_s: int,
    ) -> None:
        self._table = table
        self._clock = clock
        self._counts = counters.memory_operations
        self._cipher = MemoryCipher(secrets)
        self._is_on = is_on
        self._ttl_us = ttl_s * SECOND_US

    async def load(self, conversation: Conversation, job_id: str, dispatch_id: str) -> Memory | None:
        """What is remembered; from now on only this job can save.

        Raises: MemoryForgotten: the dispatch of the job has ended.
        """
        self._require_on()
        now = self._clock.now()
        try:
            found = await self._table.load(
                conversation, job_id, dispatch_id, now=now, expires_at=now + self._ttl_us
            )
        except MemoryForgotten:
            self._counts["load", "refused"] += 1
            raise
        if found is None:
            self._counts["load", "none"] += 1
            return None
        sealed, saved_at = found
        try:
            history = self._cipher.open(conversation, sealed)
        except UnreadableMemory as error:
            self._counts["load", "unreadable"] += 1
            logger.warning(
                "A memory of a conversation cannot be decrypted; its agent begins anew",
                extra={"action": "conversation_memory", "room": conversation.room_name, "reason": str(error)},
            )
            return None
        self._counts["load", "found"] += 1
        return Memory(history=history, saved_at=saved_at)

    async def save(self, conversation: Conversation, job_id: str, number: int, history: bytes) -> None:
        """Remember this in the place of what the job has saved before; see `Memories.save`.

        Raises: MemoryForgotten, MemoryTaken: the job may not save.
        """
        self._require_on()
        now = self._clock.now()
        sealed = self._cipher.seal(conversation, history)
        try:
            is_new = await self._table.save(
                conversation, job_id, number, sealed, now=now, expires_at=now + self._ttl_us
            )
        except (MemoryForgotten, MemoryTaken):
            self._counts["save", "refused"] += 1
            raise
        self._counts["save", "saved" if is_new else "repeated"] += 1

    async def forget(self, conversation: Conversation, job_id: str) -> None:
        """Forget the conversation at its agent's wish. Raises: MemoryTaken: another agent has it."""
        self._require_on()
        try:
            had_some = await self._table.forget(conversation, job_id)
        except MemoryTaken:
            self._counts["forget", "refused"] += 1
            raise
        self._counts["forget", "forgotten" if had_some else "none"] += 1

    async def forget_room(self, room_name: str, agent_name: str | None) -> int:
        """Forget the conversations of a room at once; returns their number. None: of all its agents."""
        self._require_on()
        count = await self._table.forget_room(room_name, agent_name)
        self._counts["forget", "forgotten" if count else "none"] += 1
        return count

    async def prune(self) -> None:
        """Forget what has expired; everything, if no memories are kept any more."""
        if not self._is_on:
            await self._table.clear()
            return
        count = await self._table.expire(self._clock.now())
        if count:
            self._counts["expire", "forgotten"] += count

    def _require_on(self) -> None:
        if not self._is_on:
            raise MemoryOff("This service keeps no memories of conversations (CONVERSATION_MEMORY)")
