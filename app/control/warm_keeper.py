"""The keeper of warm agents: makes one, looks after it, and takes it out again.

Always in this order: store what is to be done, change LiveKit, store the result. A crash between two steps
leaves a row that the next round takes up.
"""

import logging

from app.clock import Clock
from app.control.policies import Policies
from app.database.store import Store
from app.errors import LiveKitUnavailable, ServiceError
from app.lifecycle import SECOND_US, Briefing, Dispatch, Policy, State
from app.lifecycle.warm import WarmAgent, WarmEnd, WarmEvent, WarmSignal, WarmState
from app.livekit.interface import LiveKit, Probe
from app.metrics.counters import Counters
from app.state.presence import ParticipantKind

logger = logging.getLogger(__name__)

#: LiveKit counts the time without people from the creation of a room: an agent is none of them.
_ROOM_TIMEOUT_S = 365 * 86_400
#: How often one that waits is probed, and the claim of one that is claimed is looked at.
_LOOKS_EVERY_US = 10 * SECOND_US
#: Nobody waits for it, so it may load for several times as long as another agent may take to join.
_PATIENCE = 4

#: Probes of an agent that will never wait: an old helper starts its session in the holding room.
_UNABLE = (Probe.OPEN, Probe.CLOSED, Probe.UNSUPPORTED)


class WarmKeeper:
    """Its methods raise ServiceError if LiveKit or the database fails; the next round tries again."""

    def __init__(
        self, livekit: LiveKit, store: Store, policies: Policies, counters: Counters, clock: Clock
    ) -> None:
        self._livekit = livekit
        self._table = store.warm_agents
        self._store = store
        self._policies = policies
        self._counters = counters
        self._clock = clock
        #: When each was looked at; whoever is not in here is looked at in the next round.
        self._looked_at: dict[str, int] = {}
        #: Those that have not answered the last question.
        self._doubted: set[str] = set()
        #: The agent names of which it is known that they cannot wait.
        self._unable: set[str] = set()

    def forget(self, warm_id: str) -> None:
        """Something has happened to this one: look at it in the next round."""
        self._looked_at.pop(warm_id, None)

    async def make(self, agent: WarmAgent) -> None:
        """Make the holding room and the dispatch of a stored one."""
        briefing = Briefing(deployment=agent.deployment)
        try:
            await self._livekit.ensure_room(agent.room_name, _ROOM_TIMEOUT_S)
            made = await self._livekit.create_dispatch(agent.room_name, agent.agent_name, agent.id, briefing)
        except ServiceError:
            # It may have been created all the same: its room is deleted with all that is in it.
            await self.dismiss(agent, WarmEnd.NOT_CREATED)
            raise
        await self._advance(agent, WarmSignal(event=WarmEvent.DISPATCHED, dispatch_id=made.id))

    async def look_after(self, agent: WarmAgent) -> None:
        """Do what its state calls for, if it is time."""
        now = self._clock.now()
        match agent.state:
            # One from the future is of a clock that was ahead.
            case WarmState.CREATING if abs(now - agent.created_at) >= Policy.lease_us:
                await self.dismiss(agent, WarmEnd.NOT_CREATED)
            case WarmState.STARTING:
                await self._look_at_start(agent)
            case WarmState.ENDING:
                await self._remove(agent)
            case WarmState.WAITING if self._is_due(agent, now):
                await self._look_at_waiting(agent)
            case WarmState.CLAIMED if self._is_due(agent, now):
                claimant = await self._store.dispatch(agent.claimed_by or "")
                if claimant is None or not _needs(claimant, agent):
                    await self.dismiss(agent, WarmEnd.USED)
                else:
                    self._looked_at[agent.id] = now

    async def dismiss(self, agent: WarmAgent, reason: WarmEnd) -> None:
        """Take one out, unless something has happened to it in the meantime."""
        ending = await self._advance(agent, WarmSignal(event=WarmEvent.DISMISSED, reason=reason))
        if ending is None:
            return
        self._log_end(ending)
        await self._remove(ending)

    async def _remove(self, agent: WarmAgent) -> None:
        await self._livekit.delete_room(agent.room_name)
        ended = await self._advance(agent, WarmSignal(event=WarmEvent.REMOVED))
        if ended and ended.claimed_at is None:
            self._counters.note_warm_end(ended)
        self._looked_at.pop(agent.id, None)
        self._doubted.discard(agent.id)

    async def _look_at_start(self, agent: WarmAgent) -> None:
        now, room_name = self._clock.now(), agent.room_name
        policy = self._policies.lifecycle
        join_us = policy.terms_for(agent.agent_name, room_name).join_timeout_us
        is_late = now - agent.created_at >= _PATIENCE * join_us
        identity = await self._agent_in(agent)
        if identity is None:
            if await self._livekit.find_room(room_name) is None:
                await self.dismiss(agent, WarmEnd.LOST)
            elif is_late:
                await self.dismiss(agent, WarmEnd.NEVER_CAME)
            elif now - agent.created_at >= policy.job_visible_us:
                listed = await self._livekit.list_dispatches(room_name)
                if not any(dispatch.agent_identities for dispatch in listed):
                    await self.dismiss(agent, WarmEnd.UNTAKEN)
            return
        probe = await self._livekit.probe(room_name, identity)
        if probe is Probe.WAITING:
            await self._advance(agent, WarmSignal(event=WarmEvent.READY, agent_identity=identity))
            self._unable.discard(agent.agent_name)
            self._looked_at[agent.id] = now
        elif probe in _UNABLE or is_late:
            await self.dismiss(agent, WarmEnd.NEVER_WAITED)

    async def _look_at_waiting(self, agent: WarmAgent) -> None:
        try:
            probe = await self._livekit.probe(agent.room_name, agent.agent_identity or "")
        except LiveKitUnavailable:
            # Probing an agent that is not in causes this too.
            if await self._agent_in(agent) == agent.agent_identity:
                raise
            await self.dismiss(agent, WarmEnd.LOST)
            return
        if probe is Probe.WAITING:
            self._looked_at[agent.id] = self._clock.now()
            self._doubted.discard(agent.id)
        elif agent.id in self._doubted:
            await self.dismiss(agent, WarmEnd.LOST)
        else:
            # A single question is lost now and then: the next round asks again.
            self._doubted.add(agent.id)

    async def _agent_in(self, agent: WarmAgent) -> str | None:
        """The identity of who waits in the holding room; None: nobody."""
        present = await self._livekit.list_participants(agent.room_name)
        agents = (one.identity for one in present if one.kind is ParticipantKind.AGENT)
        return next((identity for identity in agents if identity), None)

    def _is_due(self, agent: WarmAgent, now: int) -> bool:
        looked_at = self._looked_at.get(agent.id)
        return looked_at is None or now - looked_at >= _LOOKS_EVERY_US

    async def _advance(self, agent: WarmAgent, signal: WarmSignal) -> WarmAgent | None:
        return await self._table.advance(agent, signal, self._clock.now())

    def _log_end(self, agent: WarmAgent) -> None:
        if agent.end_reason is WarmEnd.NEVER_WAITED and agent.agent_name not in self._unable:
            self._unable.add(agent.agent_name)
            logger.warning(
                "The agent does not wait in a holding room: no helper or an old one, a start that is not"
                " reached, or LiveKit before 1.9.2; the next is tried in 10 min, see docs/warm.md",
                extra={"action": "warm", "agent": agent.agent_name, "reason": agent.end_reason},
            )
            return
        logger.info(
            "A warm agent ends",
            extra={"action": "warm", "agent": agent.agent_name, "reason": agent.end_reason},
        )


def _needs(dispatch: Dispatch, agent: WarmAgent) -> bool:
    """Whether the dispatch still has the agent: it may have ended, or have parted from it."""
    is_over = dispatch.state in (State.ENDED, State.ON_HOLD)
    return dispatch.holding_room == agent.room_name and not is_over
