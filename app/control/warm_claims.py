"""Claims: a dispatch that is being created takes a warm agent, which comes into its room."""

import contextlib
import logging
from collections.abc import Callable

import msgspec

from app.clock import Clock
from app.control.policies import Policies
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Briefing, Dispatch, Event, Signal
from app.lifecycle.mode import Mode
from app.lifecycle.relief import is_relief
from app.lifecycle.warm import WarmAgent, WarmState
from app.livekit.agent_tokens import AgentTokens
from app.livekit.interface import ClaimAnswer, LiveKit
from app.metrics.counters import Counters
from app.state.presence import ParticipantKind

logger = logging.getLogger(__name__)

#: What an RPC can carry (LiveKit's SDKs, MAX_PAYLOAD_BYTES), less than that by the length of a token.
_PAYLOAD_BYTES = 15 * 1024 - 1_500


class WarmClaimer:
    """The order is: store the claim, tell the agent, record the dispatch.

    After a crash the row knows its holding room, and the agent is told again: it gives the same claim the
    same answer.
    """

    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        policies: Policies,
        tokens: AgentTokens,
        counters: Counters,
        clock: Clock,
        *,
        mode: Mode,
        on_claim: Callable[[], None],
        doubtful_dispatches: Callable[[], frozenset[str]],
    ) -> None:
        """`on_claim` is called when an agent was taken from the pool.

        `doubtful_dispatches`: of workers that may be dead, or are to stop.
        """
        self._livekit = livekit
        self._table = store.warm_agents
        self._policies = policies
        self._tokens = tokens
        self._counters = counters
        self._clock = clock
        self._mode = mode
        self._on_claim = on_claim
        self._doubtful_dispatches = doubtful_dispatches

    def serves(self, dispatch: Dispatch) -> bool:
        """Whether the dispatch may get a warm agent; one that takes over from another is told so as a job."""
        if is_relief(dispatch):
            return False
        # A row may have an agent name that is no longer configured.
        policy = self._policies.agents.get(dispatch.agent_name)
        return self._mode.keeps_one and policy is not None and policy.warm > 0

    async def bring(self, dispatch: Dispatch, briefing: Briefing) -> Signal | None:
        """The signal that a warm agent is in the room of the creating dispatch; None: none comes any more.

        Raises:
            LiveKitUnavailable, LiveKitRefused: one may still come, since its holding room is not gone.
        """
        if dispatch.holding_room:
            agent = await self._table.of_dispatch(dispatch)
        else:
            agent = await self._take(dispatch, briefing)
            if agent is None:
                return None
        if agent and agent.state is WarmState.CLAIMED:
            # The agent joins after this: that tells its join from those of others.
            claimed_at = self._livekit.now()
            answer = await self._tell(agent, dispatch, briefing)
            is_lost = answer in (None, ClaimAnswer.SILENT)
            if answer is ClaimAnswer.CLAIMED or (is_lost and await self._is_in(dispatch, agent)):
                await self._announce(dispatch, agent)
                return Signal(
                    event=Event.DISPATCHED,
                    dispatch_id=agent.dispatch_id,
                    dispatched_at=claimed_at,
                    agent_identity=agent.agent_identity,
                )
        await self.part(dispatch, agent)
        return None

    async def part(self, dispatch: Dispatch, agent: WarmAgent | None = None) -> None:
        """Take the warm agent from the dispatch, with its holding room: it does not come any more."""
        agent = agent or await self._table.of_dispatch(dispatch)
        if agent:
            await self._livekit.delete_room(agent.room_name)
            if await self._is_in(dispatch, agent):
                # Its process does not react, or it came a moment ago.
                await self._livekit.remove_participant(dispatch.room_name, agent.agent_identity or "")
        await self._table.part(dispatch, agent, self._clock.now())

    async def _is_in(self, dispatch: Dispatch, agent: WarmAgent) -> bool:
        """Whether the agent is in the room of the dispatch: its answer may have been lost."""
        present = await self._livekit.list_participants(dispatch.room_name)
        return any(
            one.identity == agent.agent_identity and one.kind is ParticipantKind.AGENT for one in present
        )

    async def _announce(self, dispatch: Dispatch, agent: WarmAgent) -> None:
        with contextlib.suppress(ServiceError):
            # Without it people see the agent once its session says what state it is in.
            await self._livekit.announce(dispatch.room_name, agent.agent_identity or "")

    async def _take(self, dispatch: Dispatch, briefing: Briefing) -> WarmAgent | None:
        if len(_payload(dispatch, briefing, token="")) > _PAYLOAD_BYTES:
            return None
        agent = await self._table.claim(dispatch, self._clock.now(), self._doubtful_dispatches())
        if agent is None:
            self._counters.warm_claims[dispatch.agent_name, "none_waiting"] += 1
            return None
        self._counters.note_warm_end(agent)
        self._on_claim()
        return agent

    async def _tell(self, agent: WarmAgent, dispatch: Dispatch, briefing: Briefing) -> ClaimAnswer | None:
        identity = agent.agent_identity or ""
        token = self._tokens.issue(dispatch.room_name, agent)
        answer = None
        try:
            claim = _payload(dispatch, briefing, token).decode()
            answer = await self._livekit.claim(agent.room_name, identity, claim)
        except ServiceError as error:
            logger.warning(
                "A warm agent could not be claimed; an ordinary one is dispatched",
                extra={"action": "warm", "agent": agent.agent_name, "code": error.code},
            )
        finally:
            self._counters.warm_claims[agent.agent_name, answer or "failed"] += 1
        if answer not in (None, ClaimAnswer.CLAIMED):
            logger.warning(
                "A warm agent did not come; an ordinary one is dispatched",
                extra={"action": "warm", "agent": agent.agent_name, "reason": answer},
            )
        return answer


def _payload(dispatch: Dispatch, briefing: Briefing, token: str) -> bytes:
    return msgspec.json.encode(
        {
            "claim": dispatch.id,
            "room": dispatch.room_name,
            "token": token,
            "metadata": briefing.metadata,
            "attributes": msgspec.Raw((briefing.attributes or "{}").encode()),
        }
    )
