"""Seeds: a database with any number of agents, as after a day of work."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert

from app.database import migrations
from app.database.engine import create_engine
from app.database.tables import dispatches, participants, rooms
from app.lifecycle import SECOND_US, State
from app.livekit.interface import ListedDispatch, RoomInfo
from app.state.presence import Participant, ParticipantKind

AGENT_NAME = "assistant"
_CHUNK = 5_000


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One room with one agent that waits for people until its TTL ends."""

    number: int
    #: When the agent was dispatched.
    since: int
    expires_at: int

    @property
    def name(self) -> str:
        return f"room-1-{self.number:06d}"

    @property
    def sid(self) -> str:
        return f"RM_001{self.number:09d}"

    @property
    def dispatch_id(self) -> str:
        return f"AD_{self.number:012d}"

    @property
    def identity(self) -> str:
        return f"agent-AJ_{self.number:010d}"

    def room(self) -> RoomInfo:
        return RoomInfo(name=self.name, sid=self.sid, created_at=self.since, departure_timeout_s=420)

    def agent(self) -> Participant:
        return Participant(
            sid=f"PA_agent{self.number:08d}",
            kind=ParticipantKind.AGENT,
            identity=self.identity,
            agent_name=AGENT_NAME,
            joined_at=self.since + SECOND_US,
        )

    def listed(self) -> ListedDispatch:
        return ListedDispatch(
            id=self.dispatch_id,
            agent_name=AGENT_NAME,
            created_at=self.since,
            row_id=f"{self.number:032d}",
            agent_identities=(self.identity,),
        )


def make_seeds(count: int, *, expire_in_s: float = 3_600.0, within_s: float = 3_600.0) -> dict[str, Seed]:
    """Seeds by room name. The first expires after `expire_in_s`, the last `within_s` later."""
    now = time.time_ns() // 1_000
    first, step = now + round(expire_in_s * SECOND_US), within_s * SECOND_US / count
    made = (
        Seed(number=number, since=now - 3_600 * SECOND_US, expires_at=first + round(number * step))
        for number in range(count)
    )
    return {seed.name: seed for seed in made}


async def write_database(file: Path, seeds: Iterable[Seed]) -> str:
    """Create the database and return its URL."""
    url = f"sqlite+aiosqlite:///{file}"
    engine = create_engine(url)
    await migrations.upgrade(engine)
    listed = list(seeds)
    for start in range(0, len(listed), _CHUNK):
        chunk = listed[start : start + _CHUNK]
        async with engine.begin() as connection:
            await connection.execute(insert(rooms), [_room(seed) for seed in chunk])
            await connection.execute(insert(participants), [_agent(seed) for seed in chunk])
            await connection.execute(insert(dispatches), [_dispatch(seed) for seed in chunk])
    await engine.dispose()
    return url


def _room(seed: Seed) -> dict[str, object]:
    return {"name": seed.name, "sid": seed.sid, "created_at": seed.since, "generation": 1, "people": 0}


def _agent(seed: Seed) -> dict[str, object]:
    agent = seed.agent()
    return {
        "sid": agent.sid,
        "room_name": seed.name,
        "room_sid": seed.sid,
        "kind": agent.kind,
        "identity": agent.identity,
        "agent_name": agent.agent_name,
        "generation": 1,
    }


def _dispatch(seed: Seed) -> dict[str, object]:
    return {
        "id": f"{seed.number:032d}",
        "dispatch_id": seed.dispatch_id,
        "room_name": seed.name,
        "room_sid": seed.sid,
        "agent_name": AGENT_NAME,
        "state": State.IDLE,
        "created_at": seed.since,
        "last_activity_at": seed.since,
        "dispatched_at": seed.since,
        "participant_count": 0,
        "ttl_expires_at": seed.expires_at,
        "due_at": seed.expires_at,
        "agent_identity": seed.identity,
        "agent_joined_at": seed.since + SECOND_US,
        "attempt": 1,
        "restarts": 0,
        "cleanup_failures": 0,
        "version": 1,
    }
