"""Capacity: a place for each agent that is to be made, by the limits of its policy, for all replicas."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from app.clock import Clock
from app.control.fleet import Fleet
from app.control.policies import Policies
from app.control.processor import ChangeProcessor
from app.control.requests import AgentRequest
from app.database.claims import Claims
from app.errors import AtCapacity, ServiceError
from app.lifecycle.mode import Mode
from app.state.capacity import Cap, Claim, Limits, Standing
from app.state.changes import Change, Intent, Outcome
from app.tasks import KeyedLocks

logger = logging.getLogger(__name__)

_MESSAGES = {
    Cap.AGENTS: "All places for this agent are taken (max_agents); retry",
    Cap.WORKERS: "All workers of this agent are full, or take no more jobs; retry",
    Cap.PER_IDENTITY: "The caller has as many agents as it may have (max_agents_per_identity); retry",
}


class Capacity:
    def __init__(
        self,
        claims: Claims,
        policies: Policies,
        fleet: Fleet,
        processor: ChangeProcessor,
        clock: Clock,
        *,
        mode: Mode,
    ) -> None:
        self._claims = claims
        self._fleet = fleet
        self._policies = policies
        self._clock = clock
        self._mode = mode
        #: The claims that no dispatch has used up yet.
        self._held: set[str] = set()
        #: In this process each agent name has one transaction at a time: the others would wait for the lock
        #: with a connection each.
        self._turns = KeyedLocks[str]()
        processor.subscribe(self._follow)

    def turn(self, agent_name: str) -> AbstractAsyncContextManager[None]:
        return self._turns.hold(agent_name)

    async def claim(self, request: AgentRequest) -> str | None:
        """Take a place for the agent of the request, and return its claim; None: the agent has no limits.

        Raises:
            AtCapacity: there is none, or others wait for it.
        """
        limits = self._limits(request.agent_name)
        pool = self._fleet.pool(request.agent_name, request.briefing.deployment if request.briefing else "")
        if not limits.exist and pool is None:
            return None
        # Before: a transaction that is cut off may have been committed.
        self._held.add(request.id)
        async with self.turn(request.agent_name):
            now = self._clock.now()
            standing = await self._claims.take(claim_of(request, now), limits, now, pool)
            if standing.blocked_by is not Cap.WORKERS:
                self._fleet.note_room(request.agent_name)
            elif self._fleet.may_try(request.agent_name):
                # Its limits, and those who wait, count all the same.
                standing = await self._claims.take(claim_of(request, now), limits, now, None)
        if standing.blocked_by:
            self._held.discard(request.id)
            raise refusal(standing.blocked_by)
        return request.id

    @asynccontextmanager
    async def releasing(self, request: AgentRequest) -> AsyncIterator[None]:
        """Release the claim of the request at the end, unless a dispatch has used it up."""
        try:
            yield
        finally:
            if request.id in self._held:
                self._held.discard(request.id)
                async with self.turn(request.agent_name):
                    await self.release(request.id)

    async def renew(self, agent_name: str, waiting: Sequence[Claim]) -> dict[str, Standing]:
        """See `Claims.renew`; the caller has the turn."""
        limits, pool = self._limits(agent_name), self._fleet.pool(agent_name)
        return await self._claims.renew(agent_name, waiting, limits, self._clock.now(), pool)

    async def release(self, claim_id: str) -> None:
        """Release a claim; the caller has the turn. If the database fails, the claim expires."""
        try:
            await self._claims.release(claim_id)
        except ServiceError as error:
            logger.warning(
                "Place could not be released; it expires", extra={"action": "capacity", "code": error.code}
            )

    def _limits(self, agent_name: str) -> Limits:
        if not self._mode.keeps_one:
            # A mode that only watches refuses nobody.
            return Limits()
        policy = self._policies.of(agent_name)
        return Limits(max_agents=policy.max_agents, max_agents_per_identity=policy.max_agents_per_identity)

    def _follow(self, change: Change, outcome: Outcome) -> None:
        if isinstance(change, Intent) and change.claim and outcome.applied:
            self._held.discard(change.claim)


def claim_of(request: AgentRequest, asked_at: int) -> Claim:
    return Claim(
        id=request.id,
        agent_name=request.agent_name,
        room_name=request.room_name,
        requested_by=request.requested_by,
        asked_at=asked_at,
    )


def refusal(cap: Cap, position: int | None = None, waited_ms: int | None = None) -> AtCapacity:
    return AtCapacity(_MESSAGES[cap], cap=cap, position=position, waited_ms=waited_ms)
