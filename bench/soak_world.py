"""The world of a soak: rooms that begin and finish, people who join and leave, and agents in the rooms."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.corpus import person_fields, webhook_body
from bench.seeds import AGENT_NAME

#: Further people in one room.
_MOST_GUESTS = 2
#: Of the moves of further people, those in a room with an agent.
_MOVES_BESIDE_AGENTS = 0.05
#: Of the visits that end, those whose person comes back before the TTL ends.
_RETURNS = 0.25
#: Of the plain rooms that are empty, those that finish.
_PLAIN_ROOM_ENDS = 0.01
_AGENT_JOINS_WITHIN_S = (0.2, 0.8)
#: From the deletion of a dispatch to its agent's own leave.
_JOB_ENDS_S = 0.35
#: From the leave of the last one to the end of the room.
_CLOSES_AFTER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the soak puts on the service."""

    agents: int
    #: Rooms with people and without an agent.
    plain_rooms: int
    webhooks_per_second: float
    ttl_s: int
    #: How long people are in a room, on average.
    visit_s: float
    #: Until `agents` are alive.
    begins_per_second: float


@dataclass(kw_only=True)
class Participant:
    sid: str
    identity: str
    joined_ms: int

    def fields(self, *, is_in: bool) -> dict[str, object]:
        return person_fields(sid=self.sid, identity=self.identity, joined_ms=self.joined_ms, is_in=is_in)


@dataclass(kw_only=True)
class Agent(Participant):
    def fields(self, *, is_in: bool) -> dict[str, object]:
        permission = {"canSubscribe": True, "canPublish": True, "canPublishData": True, "agent": True}
        return super().fields(is_in=is_in) | {
            "name": "",
            "permission": permission,
            "attributes": {"lk.agent_name": AGENT_NAME, "lk.agent.state": "listening"},
            "kind": "AGENT",
        }


@dataclass(kw_only=True)
class Dispatch:
    id: str
    row_id: str
    created_ns: int
    metadata: str = ""
    agent_identity: str = ""


@dataclass(eq=False, kw_only=True)
class Room:
    name: str
    sid: str
    created_ms: int
    has_agent: bool
    people: dict[str, Participant] = field(default_factory=dict)
    dispatches: dict[str, Dispatch] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    #: Grows with each visit, so that what was planned for one does not end the next.
    visits: int = 0


class World:
    """All rooms of the stub LiveKit, and whoever is in them.

    Every change is made here first and then told, as LiveKit does it.
    """

    def __init__(
        self,
        load: Load,
        *,
        emit: Callable[[Room, str], None],
        call: Callable[[Room], None],
        later: Callable[[float, Callable[[], None]], object],
        now_s: Callable[[], float],
        seed: int = 1,
    ) -> None:
        """`emit` sends a webhook's body; `call` calls for an agent; `later` runs something after a while."""
        self.rooms: dict[str, Room] = {}
        #: When each dispatch was deleted.
        self.deleted_at_s: dict[str, float] = {}
        #: Rooms whose agent is in, or awaited.
        self.served: set[Room] = set()
        self._load = load
        self._emit = emit
        self._call = call
        self._later = later
        self._now_s = now_s
        self._chance = random.Random(seed)  # noqa: S311 - not a secret
        self._numbers = itertools.count(1)
        #: Where further people move; lists, to choose from.
        self._visited: list[Room] = []
        self._plain: list[Room] = []
        self._is_quiet = False

    # People

    def begin_plain_rooms(self) -> None:
        for _ in range(self._load.plain_rooms):
            self._begin_plain_room()

    def begin_room(self) -> None:
        """A room begins with a person, who calls for an agent."""
        room = self._start("talk", has_agent=True)
        self.served.add(room)
        self._visit(room)

    def move(self) -> None:
        """A further person joins or leaves somewhere."""
        beside_agent = self._visited and self._chance.random() < _MOVES_BESIDE_AGENTS
        room = self._chance.choice(self._visited if beside_agent else self._plain)
        least, most = (1, 1 + _MOST_GUESTS) if beside_agent else (0, 1 + _MOST_GUESTS)
        if len(room.people) <= least or (len(room.people) < most and self._chance.random() < 0.5):  # noqa: PLR2004 - half of the time
            self._join(room)
            return
        # The last one who came: the first one of a visit stays to its end.
        self._leave(room, next(reversed(room.people)))
        if not room.people and self._chance.random() < _PLAIN_ROOM_ENDS:
            self._plain.remove(room)
            self._close(room)
            self._begin_plain_room()

    def be_quiet(self) -> None:
        """From now on nobody joins or leaves; the TTL of agents that are alone goes on."""
        self._is_quiet = True

    def _begin_plain_room(self) -> None:
        self._plain.append(self._start("plain", has_agent=False))

    def _visit(self, room: Room) -> None:
        self._join(room)
        self._call(room)
        room.visits += 1
        self._visited.append(room)
        mean_s = self._load.visit_s
        self._later(self._chance.uniform(0.2 * mean_s, 1.8 * mean_s), lambda: self._end_visit(room))

    def _end_visit(self, room: Room) -> None:
        if self._is_quiet:
            return
        self._visited.remove(room)
        for identity in list(room.people):
            self._leave(room, identity)
        if self._chance.random() < _RETURNS:
            self._later(self._chance.uniform(0.2, 0.8) * self._load.ttl_s, lambda: self._come_back(room))

    def _come_back(self, room: Room) -> None:
        if not self._is_quiet and self.rooms.get(room.name) is room and room.agents:
            self._visit(room)

    def _join(self, room: Room) -> None:
        number = next(self._numbers)
        person = Participant(
            sid=f"PA_{number:012d}", identity=f"user-{number}", joined_ms=round(self._now_s() * 1e3)
        )
        room.people[person.identity] = person
        self._tell("participant_joined", room, person.fields(is_in=True))

    def _leave(self, room: Room, identity: str) -> None:
        self._tell("participant_left", room, room.people.pop(identity).fields(is_in=False))

    # Rooms

    def _start(self, kind: str, *, has_agent: bool) -> Room:
        number = next(self._numbers)
        room = Room(
            name=f"{kind}-{number:09d}",
            sid=f"RM_{number:012d}",
            created_ms=round(self._now_s() * 1e3),
            has_agent=has_agent,
        )
        self.rooms[room.name] = room
        self._tell("room_started", room)
        return room

    def _close(self, room: Room) -> None:
        del self.rooms[room.name]
        self._tell("room_finished", room)

    # Dispatches and their agents

    def create_dispatch(self, room: Room, row_id: str, metadata: str) -> Dispatch:
        """A worker takes it, and its agent joins a moment later."""
        number = next(self._numbers)
        dispatch = Dispatch(
            id=f"AD_{number:012d}",
            row_id=row_id,
            created_ns=round(self._now_s() * 1e6) * 1_000,
            metadata=metadata,
            agent_identity=f"agent-AJ_{number:012d}",
        )
        room.dispatches[dispatch.id] = dispatch
        self._later(self._chance.uniform(*_AGENT_JOINS_WITHIN_S), lambda: self._put_in(room, dispatch))
        return dispatch

    def delete_dispatch(self, room: Room, dispatch_id: str) -> Dispatch | None:
        """None for one that is not there."""
        dispatch = room.dispatches.pop(dispatch_id, None)
        if dispatch:
            self.deleted_at_s[dispatch.id] = self._now_s()

            def end_job() -> None:
                self.take_out(room, dispatch.agent_identity)
                self._settle(room)

            self._later(_JOB_ENDS_S, end_job)
        return dispatch

    def take_out(self, room: Room, identity: str) -> bool:
        """An agent leaves; False if it is not in."""
        agent = room.agents.pop(identity, None)
        if agent is None:
            return False
        self._tell("participant_left", room, agent.fields(is_in=False))
        self._settle(room)
        return True

    def _settle(self, room: Room) -> None:
        """Without people and an agent the room finishes a moment later."""
        if not (room.people or room.dispatches or room.agents):
            self.served.discard(room)
            visits = room.visits
            self._later(_CLOSES_AFTER_S, lambda: self._close_unless_visited(room, visits))

    def _put_in(self, room: Room, dispatch: Dispatch) -> None:
        if room.dispatches.get(dispatch.id) is not dispatch or self.rooms.get(room.name) is not room:
            return
        identity = dispatch.agent_identity
        agent = Agent(
            sid=f"PA_{next(self._numbers):012d}", identity=identity, joined_ms=round(self._now_s() * 1e3)
        )
        room.agents[identity] = agent
        self._tell("participant_joined", room, agent.fields(is_in=True))

    def _close_unless_visited(self, room: Room, visits: int) -> None:
        if room.visits == visits and self.rooms.get(room.name) is room:
            self._close(room)

    def _tell(self, event: str, room: Room, participant: dict[str, object] | None = None) -> None:
        self._emit(
            room,
            webhook_body(
                event=event,
                event_id=f"EV_{next(self._numbers):012d}",
                room_sid=room.sid,
                room_name=room.name,
                created_ms=room.created_ms,
                people=len(room.people),
                now_s=int(self._now_s()),
                participant=participant,
            ),
        )
