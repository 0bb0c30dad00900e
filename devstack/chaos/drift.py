"""Drift: how LiveKit's rooms differ from the tables."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from livekit import api

from app.lifecycle.warm import is_holding_room
from devstack.chaos.databases import OpenDispatch, OpenWarmAgent

_HOLDS_ONE = frozenset({"starting", "active", "idle"})


@dataclass(frozen=True, kw_only=True)
class RoomState:
    name: str
    #: Ids of the dispatches that name an agent.
    dispatches: tuple[str, ...]
    #: Identities of the agents in the room.
    agents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, order=True)
class Difference:
    kind: str
    room: str
    detail: str


async def read_rooms(client: api.LiveKitAPI, departed: Collection[str]) -> list[RoomState]:
    """The rooms without `departed`, by sid: LiveKit may list those who have left until their room closes."""
    listed = await client.room.list_rooms(api.ListRoomsRequest())
    found = await asyncio.gather(*(_read_room(client, room.name, departed) for room in listed.rooms))
    return [room for room in found if room]


async def _read_room(client: api.LiveKitAPI, room: str, departed: Collection[str]) -> RoomState | None:
    try:
        dispatches, listed = await asyncio.gather(
            client.agent_dispatch.list_dispatch(room),
            client.room.list_participants(api.ListParticipantsRequest(room=room)),
        )
    except api.TwirpError:
        # The room closed between the calls.
        return None
    agent = api.ParticipantInfo.Kind.AGENT
    return RoomState(
        name=room,
        dispatches=tuple(dispatch.id for dispatch in dispatches if dispatch.agent_name),
        agents=tuple(
            one.identity for one in listed.participants if one.kind == agent and one.sid not in departed
        ),
    )


def differences(
    states: Iterable[RoomState], rows: Iterable[OpenDispatch], wanted: Collection[str]
) -> list[Difference]:
    """The broken promises at rest; `wanted` are the rooms in which people wait for an agent."""
    states = list(states)
    jobs = {room.name: room.dispatches for room in states}
    by_room: defaultdict[str, list[OpenDispatch]] = defaultdict(list)
    for row in rows:
        by_room[row.room_name].append(row)
    rooms = {room.name: room for room in states if not is_holding_room(room.name)}
    found: list[Difference] = []
    for name in sorted({*rooms, *by_room, *wanted}):
        room = rooms.get(name, RoomState(name=name, dispatches=(), agents=()))
        found += [
            Difference(kind=kind, room=name, detail=detail)
            for kind, detail in _of_room(room, by_room[name], jobs, is_wanted=name in wanted)
        ]
    return found


def _of_room(
    room: RoomState,
    rows: Collection[OpenDispatch],
    jobs: Mapping[str, Collection[str]],
    *,
    is_wanted: bool,
) -> Iterable[tuple[str, str]]:
    known = {row.dispatch_id for row in rows}
    identities = {row.agent_identity for row in rows}
    if len(room.dispatches) > 1:
        yield "several dispatches in a room", ", ".join(room.dispatches)
    if len(room.agents) > 1:
        yield "several agents in a room", ", ".join(room.agents)
    if unknown := [one for one in room.dispatches if one not in known]:
        yield "a dispatch that the table does not know", ", ".join(unknown)
    if unknown := [one for one in room.agents if one not in identities]:
        yield "an agent that the table does not know", ", ".join(unknown)
    if is_wanted and not room.agents:
        yield "no agent for people who were promised one", f"rows: {[row.state for row in rows]}"
    for row in rows:
        if row.state in _HOLDS_ONE and row.dispatch_id not in jobs.get(row.holding_room or room.name, ()):
            yield "a row without its dispatch", f"{row.dispatch_id} is {row.state}"
        if row.state in ("active", "idle") and row.agent_identity not in room.agents:
            yield "a row without its agent", f"{row.agent_identity} of {row.dispatch_id} is {row.state}"


def leftovers(states: Iterable[RoomState], rows: Iterable[OpenDispatch]) -> list[Difference]:
    """Remains of agents that nobody has wanted for longer than the TTL."""
    found = []
    for room in states:
        if is_holding_room(room.name):
            continue
        if room.dispatches:
            found.append(("a dispatch that did not end", room.name, ", ".join(room.dispatches)))
        if room.agents:
            found.append(("an agent that did not end", room.name, ", ".join(room.agents)))
    found += [("a row that did not end", row.room_name, f"{row.id} is {row.state}") for row in rows]
    return [Difference(kind=kind, room=room, detail=detail) for kind, room, detail in sorted(found)]


def pool_differences(
    states: Iterable[RoomState], warm: Collection[OpenWarmAgent], rows: Iterable[OpenDispatch], most: int
) -> list[Difference]:
    """The broken promises of the pool at rest, of which at most so many wait."""
    found = []
    claimed = {row.holding_room for row in rows}
    known = {agent.room_name: agent for agent in warm}
    for room in states:
        if not is_holding_room(room.name):
            continue
        if room.name not in known:
            found.append(("a holding room that the table does not know", room.name, ""))
        if len(room.agents) > 1:
            found.append(("several agents in a holding room", room.name, ", ".join(room.agents)))
    used = [agent for agent in warm if agent.state == "claimed" and agent.room_name not in claimed]
    found += [("a claimed agent without its dispatch", agent.room_name, agent.state) for agent in used]
    pooled = [agent for agent in warm if agent.state in ("creating", "starting", "waiting")]
    if len(pooled) > most:
        found.append(("more warm agents than wanted", "", f"{len(pooled)} of {most}"))
    return [Difference(kind=kind, room=room, detail=detail) for kind, room, detail in sorted(found)]
