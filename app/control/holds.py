"""Holds: a human takes over from a room's agent, and nothing brings it back until it is resumed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from app.control.dispatcher import Dispatcher
from app.control.effects import EffectRunner
from app.control.processor import ChangeProcessor
from app.control.queries import Queries
from app.control.requests import AgentGrant, AgentRequest
from app.errors import Busy, Conflict, ServiceError
from app.lifecycle import Dispatch, Event, Signal, State
from app.state.changes import Outcome

#: How often the room's dispatch is read again because it has ended since.
_STALE_TRIES = 5


class Holds:
    def __init__(
        self,
        queries: Queries,
        processor: ChangeProcessor,
        effects: EffectRunner,
        dispatcher: Dispatcher,
        inspect_soon: Callable[[str], None],
    ) -> None:
        """`inspect_soon`: inspects a room in the background."""
        self._queries = queries
        self._processor = processor
        self._effects = effects
        self._dispatcher = dispatcher
        self._inspect_soon = inspect_soon

    async def hold(self, room_name: str, agent_name: str) -> AgentGrant:
        """Take the agent out and keep it away; on hold already: nothing changes.

        The hold is stored first. If LiveKit cannot be asked, the agent leaves later.

        Raises:
            Conflict: the room has no agent, and none is on its way.
            Busy: the room kept changing; nothing was changed.
        """
        async with self._effects.exclusive(room_name, agent_name):
            for _ in range(_STALE_TRIES):
                row = await self._queries.current(room_name, agent_name)
                if row is None:
                    raise Conflict("There is nothing to put on hold: the room has no agent of that name")
                if row.state is State.ON_HOLD:
                    return AgentGrant(dispatch=row, reused=False)
                outcome = await self._processor.advance(row, Signal(event=Event.HOLD_REQUESTED))
                if held := _held(outcome):
                    # A failure is logged, and the deadline of the dispatch that ends retries it.
                    with suppress(ServiceError):
                        await self._effects.run_now(outcome.effects)
                    # Another program may have dispatched agents too.
                    self._inspect_soon(room_name)
                    return AgentGrant(dispatch=held, reused=False)
        raise Busy("The room kept changing while the request was processed; retry")

    async def resume(self, request: AgentRequest) -> AgentGrant:
        """Bring the agent back; one that is not on hold is requested as by any other call.

        Raises:
            Conflict: nothing is on hold, and the room has no agent.
            LiveKitUnavailable, LiveKitTimeout, LiveKitRefused: as `Dispatcher.request`.
        """
        row = await self._queries.current(request.room_name, request.agent_name)
        if row is None or row.state is State.ENDING:
            raise Conflict("There is nothing to resume: the room has no agent of that name, nor a hold")
        return await self._dispatcher.request(replace(request, resumes=True))

    async def is_on_hold(self, room_name: str, agent_name: str) -> bool:
        row = await self._queries.current(room_name, agent_name)
        return row is not None and row.state is State.ON_HOLD


def _held(outcome: Outcome) -> Dispatch | None:
    """The dispatch that the signal has put on hold, if it has."""
    changed = (transition.after for transition in outcome.transitions)
    return next((dispatch for dispatch in changed if dispatch.state is State.ON_HOLD), None)
