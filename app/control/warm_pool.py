"""The pool of warm agents: keeps as many waiting as the policies say, one replica at a time."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from app.clock import Clock
from app.control.policies import Policies
from app.control.processor import new_row_id
from app.control.warm_keeper import WarmKeeper
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import SECOND_US, State
from app.lifecycle.mode import Mode
from app.lifecycle.pool import NO_POOL, Pool, next_try_at, shortfall, surplus
from app.lifecycle.warm import HOLDING_PREFIX, POOLED, WarmAgent, WarmEnd, WarmState
from app.livekit.interface import LiveKit, RoomInfo
from app.state.changes import Change, Outcome
from app.state.views import WarmCounts
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)

#: How long after the last round the next one begins, unless something happens before: while agents come or
#: go, and in quiet.
_BUSY_S, _QUIET_S = 1.0, 5.0
#: After a claim. The worker that takes the next job, and all that it loads, has somebody to answer first.
_REFILLS_AFTER_US = SECOND_US
_QUIET = frozenset({WarmState.WAITING, WarmState.CLAIMED})
#: A holding room that no row knows may be one that another process is about to store.
_UNKNOWN_US = 60 * SECOND_US
_MINUTE_US = 60 * SECOND_US
#: How many of an agent's last ones say when the next is to be tried.
_RECENT = 50


class WarmPool:
    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        policies: Policies,
        keeper: WarmKeeper,
        clock: Clock,
        *,
        mode: Mode,
        agent_names: Iterable[str],
        draining_dispatches: Callable[[], frozenset[str]],
        concurrency: int = 16,
    ) -> None:
        """`draining_dispatches`: of workers that are to stop. `concurrency`: agents in work at once."""
        self._livekit = livekit
        self._store = store
        self._table = store.warm_agents
        self._policies = policies
        self._keeper = keeper
        self._clock = clock
        self._mode = mode
        self._agent_names = frozenset(agent_names)
        self._draining_dispatches = draining_dispatches
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = BackgroundLoop("warm pool")
        self._woken = asyncio.Event()
        #: Those that have not ended, by agent name and state, as the last round found them; those of before
        #: are not known.
        self._counts: Counter[tuple[str, WarmState]] = Counter()
        self._may_have_any = True

    def start(self) -> None:
        self._loop.start(self._repeat)

    async def close(self) -> None:
        """End the round under way: whatever it has begun is in the rows."""
        await self._loop.close()

    def counts(self) -> Sequence[WarmCounts]:
        """Of each agent name that has warm ones or is to have some."""
        wanted = {name: sum(self._pool_of(name).targets.values()) for name in self._policies.agents}
        with_any = {name for name, number in wanted.items() if number} | {name for name, _ in self._counts}
        return [
            WarmCounts(
                agent_name=agent_name,
                wanted=wanted.get(agent_name, 0),
                by_state={state: n for (name, state), n in self._counts.items() if name == agent_name},
            )
            for agent_name in sorted(with_any)
        ]

    def note_taken(self) -> None:
        """One was taken: a round begins when the next may be made."""
        asyncio.get_running_loop().call_later(_REFILLS_AFTER_US / SECOND_US, self._woken.set)

    def note_event(self, holding_room: str) -> None:
        """LiveKit has reported something of this holding room."""
        self._keeper.forget(holding_room.removeprefix(HOLDING_PREFIX))
        self._woken.set()

    def follow(self, _change: Change, outcome: Outcome) -> None:
        """The dispatch of a claimed one may be over; called after each commit."""
        for transition in outcome.transitions:
            dispatch = transition.after
            if dispatch.holding_room and dispatch.state in (State.ENDED, State.ON_HOLD):
                self.note_event(dispatch.holding_room)

    async def run(self) -> None:
        """One round: look after every warm agent, end those that are too many, and make what is missing."""
        if not self._may_have_any and not any(self._pool_of(name).most for name in self._policies.agents):
            return
        async with self._store.exclusive("warm pool") as alone:
            agents: Sequence[WarmAgent] = await self._table.open()
            if alone:
                agents = await self._tend(agents)
        self._note(agents)

    async def sweep(self, rooms: Sequence[RoomInfo]) -> None:
        """Delete holding rooms that are nobody's: LiveKit makes one anew for an agent that comes too late.

        After all rooms of people were compared: a claimed agent that was found there keeps its holding room.
        """
        ids = [room.name.removeprefix(HOLDING_PREFIX) for room in rooms]
        known = await self._table.known(ids)
        if len(known) < len(ids):
            # A crash may have come between the adoption of a claimed one and this.
            for agent_name in sorted(self._agent_names):
                await self._guarded(self._table.restore(agent_name))
            known = await self._table.known(ids)
        for room in rooms:
            agent = known.get(room.name.removeprefix(HOLDING_PREFIX))
            if agent is None and self._livekit.now() - room.created_at >= _UNKNOWN_US:
                await self._guarded(self._delete_unknown(room))
            elif agent and agent.state is WarmState.ENDED:
                await self._guarded(self._livekit.delete_room(room.name))

    async def _delete_unknown(self, room: RoomInfo) -> None:
        """Of a database that was lost; one with agents of other names is another service's."""
        listed = await self._livekit.list_dispatches(room.name)
        if all(dispatch.agent_name in self._agent_names for dispatch in listed):
            await self._livekit.delete_room(room.name)

    async def _repeat(self) -> None:
        while True:
            with suppress(TimeoutError):
                is_quiet = bool(self._counts) and {state for _, state in self._counts} <= _QUIET
                async with asyncio.timeout(_QUIET_S if is_quiet else _BUSY_S):
                    await self._woken.wait()
            self._woken.clear()
            await self._guarded(self.run())

    async def _tend(self, agents: Sequence[WarmAgent]) -> Sequence[WarmAgent]:
        """Do what each of these calls for, then what the policies do; returns what there is then."""
        await asyncio.gather(*(self._in_turn(self._keeper.look_after, agent) for agent in agents))
        agents = await self._table.open()
        names = {name for name in self._policies.agents if self._pool_of(name).most}
        for agent_name in sorted(names | {agent.agent_name for agent in agents}):
            await self._guarded(self._fit(agent_name, agents))
        return agents

    async def _fit(self, agent_name: str, everyone: Sequence[WarmAgent]) -> None:
        """End those of this name that are too many, and make what is missing."""
        now, pool = self._clock.now(), await self._allowed(agent_name)
        agents = _pooled(everyone, agent_name)
        draining = self._draining_dispatches()
        going = [(agent, WarmEnd.UNWANTED) for agent in _waiting_on(agents, draining)]
        going += surplus([agent for agent in agents if agent.dispatch_id not in draining], pool, now)
        for agent, reason in going:
            await self._guarded(self._keeper.dismiss(agent, reason))
        if going:
            agents = _pooled(await self._table.open(), agent_name)
        missing = shortfall(agents, pool, now)
        if missing and not any(_was_just_taken(one, now) for one in everyone if one.agent_name == agent_name):
            await self._make(agent_name, missing, now)

    async def _allowed(self, agent_name: str) -> Pool:
        """Its pool, within the agent's limit beside all that have a room of their own."""
        pool = self._pool_of(agent_name)
        limit = self._policies.of(agent_name).max_agents if pool.most else None
        return pool if limit is None else pool.within(limit - await self._table.taken(agent_name))

    async def _make(self, agent_name: str, missing: Sequence[str], now: int) -> None:
        policy = self._policies.of(agent_name)
        made = await self._table.count_made(agent_name, now - _MINUTE_US, now)
        rate = policy.warm_refill_per_minute - made
        wanted: list[str] = []
        for deployment in sorted(set(missing)):
            number = missing.count(deployment)
            retry_at = next_try_at(await self._table.recent(agent_name, deployment, _RECENT), now)
            if self._policies.lifecycle.is_failing(agent_name, deployment, now):
                continue
            if retry_at is not None:
                # One that comes shows that the others may.
                number = int(retry_at <= now)
            wanted += [deployment] * number
        new = [
            WarmAgent(id=new_row_id(), agent_name=agent_name, deployment=deployment, created_at=now)
            for deployment in wanted[: max(0, rate)]
        ]
        if new:
            added = await self._table.add(new, policy.max_agents)
            await asyncio.gather(*(self._in_turn(self._keeper.make, agent) for agent in added))

    def _pool_of(self, agent_name: str) -> Pool:
        if not self._mode.keeps_one or agent_name not in self._policies.agents:
            return NO_POOL
        return self._policies.of(agent_name).pool

    def _note(self, agents: Iterable[WarmAgent]) -> None:
        self._counts = Counter((agent.agent_name, agent.state) for agent in agents)
        self._may_have_any = bool(self._counts)

    async def _in_turn(self, act: Callable[[WarmAgent], Awaitable[None]], agent: WarmAgent) -> None:
        async with self._slots:
            await self._guarded(act(agent))

    async def _guarded(self, work: Awaitable[object]) -> None:
        try:
            await work
        except ServiceError as error:
            logger.warning(
                "Warm agents could not be looked after; the next round retries",
                extra={"action": "warm", "code": error.code},
            )
        except Exception:
            logger.exception("Unexpected error while looking after warm agents", extra={"action": "warm"})


def _waiting_on(agents: Iterable[WarmAgent], dispatch_ids: frozenset[str]) -> list[WarmAgent]:
    return [agent for agent in agents if agent.state in POOLED and agent.dispatch_id in dispatch_ids]


def _was_just_taken(agent: WarmAgent, now: int) -> bool:
    return agent.claimed_at is not None and abs(now - agent.claimed_at) < _REFILLS_AFTER_US


def _pooled(agents: Iterable[WarmAgent], agent_name: str) -> list[WarmAgent]:
    """All of this name that take a place in the pool."""
    return [agent for agent in agents if agent.agent_name == agent_name and agent.claimed_by is None]
