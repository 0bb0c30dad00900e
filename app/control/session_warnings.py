"""Warnings: tells an agent that its longest session ends soon, so that it can say goodbye."""

import logging

import msgspec

from app.clock import Clock
from app.control.processor import ChangeProcessor
from app.database.store import Store
from app.lifecycle import SECOND_US, Dispatch, EndReason, Event, Signal
from app.livekit.interface import Hearing, LiveKit

logger = logging.getLogger(__name__)


class SessionWarner:
    """The row repeats a warning that was not heard, and one whose answer was lost."""

    def __init__(self, livekit: LiveKit, store: Store, processor: ChangeProcessor, clock: Clock) -> None:
        self._livekit = livekit
        self._store = store
        self._processor = processor
        self._clock = clock

    async def warn(self, dispatch: Dispatch) -> None:
        """Send the agent one warning, and record it if there is no use in another one."""
        ends_at, identity = dispatch.session_ends_at, dispatch.agent_identity
        if ends_at is None or identity is None:
            return
        warning = warning_text(ends_at, self._clock.now())
        hearing = await self._livekit.warn(dispatch.room_name, identity, warning)
        if hearing is Hearing.SILENT or (hearing is Hearing.UNKNOWN and self._may_learn(dispatch)):
            return
        current = await self._store.dispatch(dispatch.id)
        # A policy that was read again may have moved the end: that is another warning.
        if current and (current.session_ends_at, current.agent_identity) == (ends_at, identity):
            await self._processor.advance(current, Signal(event=Event.WARNED), current.version)
            logger.info(
                "The agent was warned that its session ends soon",
                extra={
                    "action": "warning",
                    "dispatch_id": dispatch.dispatch_id,
                    "room": dispatch.room_name,
                    "result": hearing,
                },
            )

    def _may_learn(self, dispatch: Dispatch) -> bool:
        """Whether the agent may still be loading: its helper adds the method a while after its join."""
        age_us = self._clock.now() - (dispatch.agent_joined_at or 0)
        return age_us < self._processor.policy.terms_of(dispatch).join_timeout_us


def warning_text(ends_at: int, now: int) -> str:
    """What the agent is sent; `endsAtMs` is the same each time that one end is warned of."""
    warning = {
        "reason": EndReason.MAX_SESSION,
        "endsInS": round(max(0, ends_at - now) / SECOND_US),
        "endsAtMs": ends_at // 1_000,
    }
    return msgspec.json.encode(warning).decode()
