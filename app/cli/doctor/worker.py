"""Check of the workers: one dispatch for each agent name, each in an empty room."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok
from app.errors import LiveKitUnavailable, ServiceError
from app.lifecycle import UNTOLD
from app.livekit.interface import Probe
from app.state.presence import Participant, ParticipantKind

_LOOK_EVERY_S = 0.2
#: An agent connects a moment before its helper can answer.
_LOOKS_AT_A_PLAIN_ONE = 5
#: LiveKit closes the room after this, if its deletion is interrupted.
_ROOM_CLOSES_AFTER_S = 60
#: Distinguishes these dispatches from the service's own.
_ROW_ID = "doctor"


async def check_workers(context: CheckContext) -> Findings:
    names = context.config.agent_names
    for finding in await asyncio.gather(*(_try_worker(context, name) for name in names)):
        yield finding


@asynccontextmanager
async def scratch_room(context: CheckContext) -> AsyncIterator[str]:
    """A room for one trial, which is deleted with everybody in it, however the trial ends."""
    name = f"doctor-{secrets.token_hex(6)}"
    try:
        await context.livekit.ensure_room(name, _ROOM_CLOSES_AFTER_S)
        yield name
    finally:
        with suppress(ServiceError):
            await context.livekit.delete_room(name)


async def _try_worker(context: CheckContext, agent_name: str) -> Finding:
    try:
        async with scratch_room(context) as room_name:
            await context.livekit.create_dispatch(room_name, agent_name, _ROW_ID, UNTOLD)
            trial = _Trial(context, room_name, agent_name)
            with suppress(TimeoutError):
                async with asyncio.timeout(context.wait_s):
                    return await trial.watch()
            return trial.failure()
    except ServiceError as error:
        return fault(f"{agent_name} could not be dispatched: {error}", "check LiveKit's log")


class _Trial:
    """One dispatch, and what has been seen of it."""

    def __init__(self, context: CheckContext, room_name: str, agent_name: str) -> None:
        self._context = context
        self._room_name = room_name
        self._agent_name = agent_name
        self._agents: list[Participant] = []
        self._is_taken = False
        self._probe: Probe | None = None

    async def watch(self) -> Finding:
        """Return once an agent has joined and answers."""
        looks_at_a_plain_one = 0
        while True:
            await self._look()
            if self._probe in (Probe.OPEN, Probe.CLOSED):
                return ok(f"a worker started {self._agent_name}, and the agent reports its health")
            if self._probe is Probe.UNSUPPORTED:
                return ok(f"a worker started {self._agent_name}; this LiveKit cannot ask whether it answers")
            if self._probe is Probe.ALIVE:
                looks_at_a_plain_one += 1
            if looks_at_a_plain_one >= _LOOKS_AT_A_PLAIN_ONE:
                return ok(
                    f"a worker started {self._agent_name}, but the agent does not report its health: it is"
                    " replaced, not reused, when its user returns (docs/agents.md)"
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        livekit = self._context.livekit
        participants = await livekit.list_participants(self._room_name)
        self._agents = [one for one in participants if one.kind is ParticipantKind.AGENT]
        ours = next((one for one in self._agents if one.agent_name == self._agent_name), None)
        if ours and ours.identity:
            # It may leave during the probe.
            with suppress(LiveKitUnavailable):
                self._probe = await livekit.probe(self._room_name, ours.identity)
        else:
            listed = await livekit.list_dispatches(self._room_name)
            self._is_taken = any(one.agent_identities for one in listed)

    def failure(self) -> Finding:
        """The fault: why no agent has answered."""
        name, wait_s = self._agent_name, self._context.wait_s
        decorator = f'@server.rtc_session(agent_name="{name}")'
        if any(one.agent_name == name for one in self._agents):
            return fault(
                f"a worker started {name}, but the agent was not reachable within {wait_s:g} s",
                "open LiveKit's media ports to the worker, at the address that LiveKit announces:"
                " rtc.udp_port or port_range_start, rtc.tcp_port, rtc.node_ip or use_external_ip in its YAML",
            )
        if any(not one.agent_name for one in self._agents):
            return fault(
                f"no worker is registered as {name}, but one without a name, which LiveKit dispatches to"
                " every room",
                f"set the name of your worker:  {decorator}",
            )
        if self._is_taken:
            return fault(
                f"a worker accepted the dispatch to {name}, but no agent joined within {wait_s:g} s",
                "check the worker's log; the entrypoint must connect:  await ctx.connect()   (one that loads"
                " for longer: doctor --wait 60)",
            )
        return fault(
            f"no worker is registered as {name} (waited {wait_s:g} s)",
            "start your worker with the same LIVEKIT_URL and key, and check that its agent_name is exactly"
            f" equal:  {decorator}",
        )
