"""The recorder: loads what is remembered before a session, and saves it after each turn."""

import asyncio
import inspect
import logging
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, llm
from livekit.protocol import agent as agent_protocol

from reusable_agent.history import Item, history_of, items_of, parse, resumed_context
from reusable_agent.lifecycle_service import ServiceRefusedError
from reusable_agent.memory import (
    Conversation,
    Memory,
    MemoryClosedError,
    OnResume,
    Resumed,
    conversation_of,
)

#: How long the start of a session may wait for the memory, in all and for one try.
_RECALL_TIMEOUT_S, _RECALL_TRY_S, _RECALL_PAUSE_S = 3.0, 1.4, 0.2
_SAVE_TIMEOUT_S = 10.0
#: Pauses between the tries of one save.
_SAVE_PAUSES_S = (0.5, 2.0)
#: How long an agent that leaves waits for its last save.
_LAST_SAVE_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)


class Recorder:
    """Saves the history of one session: one save at a time, of those that wait only the newest.

    No failure of the memory keeps the agent from answering. A save that fails costs what it had, until the
    next one: each has the whole history.
    """

    def __init__(self, memory: Memory, conversation: Conversation, on_resume: OnResume | None) -> None:
        self._memory = memory
        self._conversation = conversation
        self._on_resume = on_resume
        #: What the agents before have saved; None: not known yet.
        self._earlier: list[Item] | None = None
        self._resumed = llm.ChatContext.empty()
        self._session: AgentSession[Any] | None = None
        self._is_stale = False
        #: Of the last try to load.
        self._last_error: Exception | None = None
        self._is_closed = False
        self._saving: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is said will be saved, as far as is known."""
        return not self._is_closed

    async def recall(self, agent: Agent) -> None:
        """Load what is remembered into the agent's chat context, before its session starts."""
        try:
            async with asyncio.timeout(_RECALL_TIMEOUT_S):
                await self._load_patiently()
            history = parse(self._earlier or [])
            # A session begins with the handoff to its first agent, before anything is said.
            if history.messages():
                await agent.update_chat_ctx(resumed_context(agent.chat_ctx, history))
                self._resumed = history
        except MemoryClosedError as error:
            _log.info("nothing of this conversation is saved: %s", error)
            self.close()
        except Exception as error:  # noqa: BLE001 - the agent must answer, with or without its memory
            why = self._last_error or error
            _log.warning("the memory could not be read (%r): the agent begins without it", why)

    def watch(self, session: AgentSession[Any]) -> None:
        """Save after each item from now on."""
        if not self._is_closed:
            self._session = session
            session.on("conversation_item_added", self._on_item)

    async def tell(self) -> None:
        """Tell the agent, whose session has started, that it goes on with a conversation."""
        if self._on_resume is None or not self._resumed.items:
            return
        try:
            result = self._on_resume(Resumed(conversation=self._conversation, history=self._resumed))
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 - a caller's callback may raise; the agent goes on
            _log.exception("the callback for a resumed conversation failed")

    async def hand_over(self) -> None:
        """Save what is not saved yet, and nothing after that: another agent goes on."""
        self._on_item(None)
        if self._saving is not None:
            await asyncio.wait([self._saving], timeout=_LAST_SAVE_TIMEOUT_S)
        self.close()

    async def forget(self) -> None:
        """Forget everything: the agent has ended its conversation."""
        if self._is_closed:
            return
        self.close()
        try:
            async with asyncio.timeout(_LAST_SAVE_TIMEOUT_S):
                await self._memory.forget(self._conversation)
        except MemoryClosedError as error:
            _log.info("the conversation is not this agent's to forget: %s", error)
        except Exception:  # noqa: BLE001 - a memory may raise anything; the agent leaves
            _log.warning("could not forget the conversation", exc_info=True)

    def close(self) -> None:
        """Save nothing more."""
        self._is_closed = True
        if self._session is not None:
            self._session.off("conversation_item_added", self._on_item)
        if self._saving is not None:
            self._saving.cancel()

    def _on_item(self, _: object) -> None:
        self._is_stale = True
        if self._is_closed or self._session is None or (self._saving and not self._saving.done()):
            return
        self._saving = asyncio.get_running_loop().create_task(self._save_until_fresh(self._session))

    async def _save_until_fresh(self, session: AgentSession[Any]) -> None:
        while self._is_stale and not self._is_closed:
            self._is_stale = False
            try:
                async with asyncio.timeout(_SAVE_TIMEOUT_S):
                    await self._save(session)
            except MemoryClosedError as error:
                _log.info("nothing more of this conversation is saved: %s", error)
                self._is_closed = True
            except Exception as error:  # noqa: BLE001 - a memory may raise anything; the next turn tries again
                _log.warning("this turn of the conversation could not be saved: %r", error)

    async def _save(self, session: AgentSession[Any]) -> None:
        for pause_s in (*_SAVE_PAUSES_S, None):
            try:
                if self._earlier is None:
                    await self._load()
                # With what was added during a pause.
                self._is_stale = False
                await self._memory.save(self._conversation, history_of(self._earlier or [], session.history))
            except (MemoryClosedError, ServiceRefusedError):
                raise
            except Exception:
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    async def _load_patiently(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_RECALL_TRY_S):
                    await self._load()
            except (MemoryClosedError, ServiceRefusedError):
                # To ask again would only keep the agent from answering.
                raise
            except Exception as error:  # noqa: BLE001 - a memory may raise anything
                self._last_error = error
                await asyncio.sleep(_RECALL_PAUSE_S)
            else:
                return

    async def _load(self) -> None:
        history = await self._memory.load(self._conversation)
        self._earlier = items_of(history) if history else []


async def recorder_of(
    memory: Memory | None, on_resume: OnResume | None, ctx: JobContext, room: rtc.Room
) -> Recorder | None:
    """The recorder of a job's session in `room`; None without a memory, or if there can be none."""
    if memory is None:
        return None
    if ctx.job.type == agent_protocol.JobType.JT_PUBLISHER:
        _log.warning("no memory of conversations: a worker of type publisher has several in one room")
        return None
    try:
        return Recorder(memory, await conversation_of(ctx, room), on_resume)
    except Exception:  # noqa: BLE001 - the agent must answer, with or without a memory
        _log.warning("no memory of this conversation: its room is not known", exc_info=True)
        return None
