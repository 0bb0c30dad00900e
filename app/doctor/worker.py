"""The workers: one dispatch to each agent name, in a room that nobody else is in."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.doctor.findings import Finding, Findings, fault, ok
from app.doctor.patient import Patient
from app.errors import ServiceError
from app.presence import Kind, Participant

_LOOK_EVERY_S = 0.2
#: LiveKit closes the room by itself after this, should even the deletion of it be interrupted.
_ROOM_CLOSES_AFTER_S = 60
#: Tells our dispatches in scratch rooms from the service's own.
_ROW_ID = "doctor"


async def check_workers(patient: Patient) -> Findings:
    names = patient.config.agent_names
    for finding in await asyncio.gather(*(_try_worker(patient, name) for name in names)):
        yield finding


@asynccontextmanager
async def scratch_room(patient: Patient) -> AsyncIterator[str]:
    """A room for one trial; it is deleted with whoever is in it, however the trial ends."""
    name = f"doctor-{secrets.token_hex(6)}"
    try:
        await patient.livekit.ensure_room(name, _ROOM_CLOSES_AFTER_S)
        yield name
    finally:
        with suppress(ServiceError):
            await patient.livekit.delete_room(name)


async def _try_worker(patient: Patient, agent_name: str) -> Finding:
    try:
        async with scratch_room(patient) as room_name:
            await patient.livekit.create_dispatch(room_name, agent_name, _ROW_ID, "")
            return await _await_agent(patient, room_name, agent_name)
    except ServiceError as error:
        return fault(f"{agent_name} could not be dispatched: {error}", "look into LiveKit's log")


async def _await_agent(patient: Patient, room_name: str, agent_name: str) -> Finding:
    agents: list[Participant] = []
    is_taken = False
    try:
        async with asyncio.timeout(patient.wait_s):
            while True:
                participants = await patient.livekit.list_participants(room_name)
                agents = [one for one in participants if one.kind is Kind.AGENT]
                if any(one.agent_name == agent_name for one in agents):
                    return ok(f"a worker took a dispatch to {agent_name}, and its agent joined")
                listed = await patient.livekit.list_dispatches(room_name)
                is_taken = any(one.agent_identities for one in listed)
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        return _missing(agent_name, agents, patient.wait_s, is_taken=is_taken)


def _missing(agent_name: str, agents: list[Participant], wait_s: float, *, is_taken: bool) -> Finding:
    if any(not one.agent_name for one in agents):
        return fault(
            f"no worker is registered under the name {agent_name}, but one without a name: LiveKit sends that"
            " into every room by itself",
            f'give your worker the name:  @server.rtc_session(agent_name="{agent_name}")',
        )
    if is_taken:
        return fault(
            f"a worker took the dispatch to {agent_name}, but no agent joined within {wait_s:g} s",
            "look into the worker's log; an entrypoint has to connect:  await ctx.connect()",
        )
    return fault(
        f"no worker is registered under the name {agent_name} (waited {wait_s:g} s)",
        "start your worker with the same LIVEKIT_URL and key, and check its agent_name: names have to be"
        f' exactly equal:  @server.rtc_session(agent_name="{agent_name}")',
    )
