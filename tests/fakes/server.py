"""A LiveKit server in memory, with its workers and people, that behaves as the real one was seen to.

What it imitates is asserted of both in tests/contract. Time is the fake clock's: whatever the real server
does a moment later happens here when the clock is advanced past that moment.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jwt

from app.config.settings import Keypair
from app.lifecycle import UNTOLD, Briefing
from app.lifecycle.warm import is_holding_room
from app.livekit.interface import RELIEVES_ATTRIBUTE
from app.state.presence import CLOSING_LEAVES, ParticipantKind
from fakes import webhooks
from fakes.clock import SECOND_US, FakeClock
from fakes.rooms import FakeAgent, FakeDispatch, FakeParticipant, FakeRoom, FakeWorker, Process
from fakes.webhooks import SignedWebhook

#: LiveKit asks who serves an agent name, waits this long for late answers, and knows it for a while. The
#: dispatch that made it ask shows no job before, and none of its jobs is ended.
_ENQUIRY_S, _ENQUIRY_KEPT_S = 5.05, 60.0
#: Any other one shows its job at once, mostly before the agent is in.
_JOB_SHOWN_S = 0.22
#: How long it takes LiveKit to notice that an agent's process is dead.
CONNECTION_TIMEOUT_S = 21.0
#: From the deletion of a dispatch, its job being listed, to its agent's leave.
_JOB_ENDS_S = 0.35
#: How long a worker waits for an entrypoint whose job was ended, before it cancels it.
_CANCELLED_AFTER_S = 15
_AGENT_JOINS_S = 0.4
#: An agent with the helper that takes over from another asks it to stop, and that one leaves.
_ASKS_AFTER_S, _LEAVES_AFTER_S = 0.1, 1.0
_EMPTY_TIMEOUT_S, _DEPARTURE_TIMEOUT_S = 300, 20


class FakeServer:
    """Rooms, workers and people; `post` takes the webhooks."""

    def __init__(
        self,
        clock: FakeClock,
        keypair: Keypair,
        post: Callable[[SignedWebhook], None],
        *,
        ahead_us: int = 0,
        closes_with_user: bool = True,
    ) -> None:
        """`ahead_us`: how far LiveKit's own clock is ahead of ours; whatever it tells the time of has it.

        `closes_with_user`: whether sessions without the helper close with their user, as is the default.
        """
        self.closes_with_user = closes_with_user
        #: False: as before livekit-server 1.9.2.
        self.has_probe = True
        #: False: as before livekit-server 1.13.2. Such a server drops what it does not know.
        self.keeps_attributes = True
        #: True: it lists agents that have left, until their room closes. Seen under load on 1.13.5, where a
        #: change of a participant can be stored after its leave (pkg/service/roommanager.go). Nobody answers
        #: a call to such a participant.
        self.keeps_ghosts = False
        #: The identity that workers give all their agents; None: that of the job.
        self.fixed_identity: str | None = None
        self.ahead_us = ahead_us
        self.rooms: dict[str, FakeRoom] = {}
        self.workers: list[FakeWorker] = []
        self._clock = clock
        self._keypair = keypair
        self._post = post
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        #: Where else an agent is, by its room's sid and its identity: its holding room, or that of a person.
        self.elsewhere: dict[tuple[str, str], FakeRoom] = {}
        #: When LiveKit last asked who serves an agent name.
        self._enquiries: dict[str, int] = {}

    def now(self) -> int:
        """By LiveKit's own clock."""
        return self._clock.now() + self.ahead_us

    # Rooms

    def open_room(
        self,
        name: str,
        empty_timeout_s: int = _EMPTY_TIMEOUT_S,
        departure_timeout_s: int = _DEPARTURE_TIMEOUT_S,
    ) -> FakeRoom:
        """The room: made with these timeouts, or, where it exists, as it is."""
        if name not in self.rooms:
            room = FakeRoom(
                name=name,
                sid=self._new_id("RM"),
                created_at=self._now_ms(),
                empty_timeout_s=empty_timeout_s,
                departure_timeout_s=departure_timeout_s,
            )
            self.rooms[name] = room
            self._emit("room_started", room)
            self._plan_closing(room, room.empty_timeout_s)
        return self.rooms[name]

    def delete_room(self, name: str) -> None:
        self._close(self.rooms[name], "ROOM_DELETED")

    def restart(self) -> None:
        """Away for a moment: it has no rooms any more, tells nobody, and asks anew who serves which name."""
        self.rooms.clear()
        self._enquiries.clear()

    def close_room(self, name: str) -> None:
        """The same, as the service asks for it."""
        self.delete_room(name)

    def _plan_closing(self, room: FakeRoom, timeout_s: int) -> None:
        comings = room.comings

        def close() -> None:
            if self.rooms.get(room.name) is room and not room.people and room.comings == comings:
                self._close(room, "ROOM_CLOSED")

        self._clock.call_later(timeout_s, close)

    def _close(self, room: FakeRoom, reason: str) -> None:
        del self.rooms[room.name]
        for participant in list(room.participants.values()):
            self._take_out(room, participant, reason)
        self._emit("room_finished", room)

    # People

    def join(self, room_name: str, identity: str = "alice", *, is_phone: bool = False) -> FakeParticipant:
        """A person joins; whoever is in already under that identity, an agent too, is thrown out."""
        room = self.open_room(room_name)
        if identity in room.participants:
            self._take_out(room, room.participants[identity], "DUPLICATE_IDENTITY")
            self._end_elsewhere(room, identity)
        person = FakeParticipant(
            sid=self._new_id("PA"), identity=identity, joined_at=self._now_ms(), is_phone=is_phone
        )
        room.comings += 1
        for agent in room.agents:
            agent.linked = agent.linked or identity
        self._put_in(room, person)
        for dispatch in room.dispatches.values():
            self._serve_publisher(room, dispatch)
        return person

    def leave(self, room_name: str, identity: str = "alice", reason: str = "CLIENT_INITIATED") -> None:
        """A person or an agent leaves by itself, or is lost."""
        room = self.rooms[room_name]
        self._take_out(room, room.participants[identity], reason)

    def _put_in(self, room: FakeRoom, participant: FakeParticipant) -> None:
        room.participants[participant.identity] = participant
        self._emit("participant_joined", room, participant)

    def _take_out(self, room: FakeRoom, participant: FakeParticipant, reason: str) -> None:
        if room.participants.get(participant.identity) is not participant:
            return
        del room.participants[participant.identity]
        self._emit("participant_left", room, participant, reason)
        if reason != "DUPLICATE_IDENTITY":
            self._end_elsewhere(room, participant.identity)
        if self.keeps_ghosts and participant.kind is not ParticipantKind.PERSON:
            room.ghosts[participant.identity] = participant
        if participant.kind is not ParticipantKind.PERSON:
            return
        for agent in room.agents:
            default_session = self.closes_with_user and agent.reacts and not agent.worker.helper
            if default_session and agent.linked == participant.identity and reason in CLOSING_LEAVES:
                agent.session_open = False
        if not room.people:
            self._plan_closing(room, room.departure_timeout_s)

    def _end_elsewhere(self, room: FakeRoom, identity: str) -> None:
        """The process of an agent that is out of one of its two rooms leaves the other."""
        other = self.elsewhere.pop((room.sid, identity), None)
        agent = other.participants.get(identity) if other else None
        if other and isinstance(agent, FakeAgent) and agent.reacts:
            self.elsewhere.pop((other.sid, identity), None)
            self._take_out(other, agent, "CLIENT_INITIATED")

    # Workers and their agents

    def start_worker(
        self,
        agent_name: str,
        *,
        helper: bool = True,
        joins_after_s: float = _AGENT_JOINS_S,
        starts_after_s: float = 0,
        for_publishers: bool = False,
        deployment: str = "",
        remembers: bool = False,
    ) -> FakeWorker:
        worker = FakeWorker(
            agent_name=agent_name,
            helper=helper,
            joins_after_s=joins_after_s,
            deployment=deployment,
            starts_after_s=starts_after_s,
            for_publishers=for_publishers,
            remembers=remembers,
        )
        self.workers.append(worker)
        return worker

    def freeze(self, worker: FakeWorker) -> None:
        worker.process = Process.FROZEN
        self._plan_connection_timeouts(worker)

    def kill(self, worker: FakeWorker) -> None:
        worker.process = Process.KILLED
        self._plan_connection_timeouts(worker)

    def agents_of(self, worker: FakeWorker) -> list[tuple[FakeRoom, FakeAgent]]:
        rooms = self.rooms.values()
        return [(room, agent) for room in rooms for agent in room.agents if agent.worker is worker]

    def _plan_connection_timeouts(self, worker: FakeWorker) -> None:
        def notice(room: FakeRoom, agent: FakeAgent) -> None:
            if not agent.reacts:
                self._take_out(room, agent, "CONNECTION_TIMEOUT")

        for room, agent in self.agents_of(worker):
            self._clock.call_later(CONNECTION_TIMEOUT_S, partial(notice, room, agent))

    # Dispatches

    def create_dispatch(
        self,
        room_name: str,
        agent_name: str,
        row_id: str | None = None,
        briefing: Briefing = UNTOLD,
    ) -> FakeDispatch:
        """A dispatch, whatever there is already; a room that is missing is made with LiveKit's defaults."""
        if not self.keeps_attributes:
            row_id, briefing = None, Briefing(metadata=briefing.metadata)
        room = self.open_room(room_name)
        attributes = json.loads(briefing.attributes or "{}")
        if relieves := attributes.pop(RELIEVES_ATTRIBUTE, None):
            # It is the service's own: whoever lists the dispatch is not told.
            text = json.dumps(attributes, separators=(",", ":")) if attributes else ""
            briefing = replace(briefing, attributes=text)
        dispatch = FakeDispatch(
            id=self._new_id("AD"),
            agent_name=agent_name,
            created_at=self.now(),
            row_id=row_id,
            briefing=briefing,
            relieves=relieves,
            job_shown_at=self._clock.now() + round(self._enquire(agent_name) * SECOND_US),
        )
        room.dispatches[dispatch.id] = dispatch
        able = [one for one in self.workers if one.agent_name == agent_name and one.takes_jobs]
        if self.keeps_attributes:
            # A server from before gives a job to any of them.
            able = [one for one in able if one.deployment == briefing.deployment]
        if able:
            self._assign(room, dispatch, able[next(self._turns) % len(able)])
        return dispatch

    def delete_dispatch(self, room: FakeRoom, dispatch_id: str) -> bool:
        """False for one that is not there; a job that runs is ended a moment later, a dead one never."""
        dispatch = room.dispatches.pop(dispatch_id, None)
        if dispatch is None:
            return False
        shown_in_s = (dispatch.job_shown_at - self._clock.now()) / SECOND_US
        self._clock.call_later(max(_JOB_ENDS_S, shown_in_s), lambda: self._end_job(room, dispatch))
        return True

    def _enquire(self, agent_name: str) -> float:
        """How long it takes until a dispatch of this name shows its job."""
        asked_at = self._enquiries.get(agent_name)
        if asked_at is not None and self._clock.now() - asked_at < _ENQUIRY_KEPT_S * SECOND_US:
            return _JOB_SHOWN_S
        self._enquiries[agent_name] = self._clock.now()
        return _ENQUIRY_S

    def _end_job(self, room: FakeRoom, dispatch: FakeDispatch) -> None:
        dispatch.job_ended_at = self._clock.now()
        for identity in dispatch.jobs:
            agent = room.participants.get(identity)
            if isinstance(agent, FakeAgent) and agent.reacts:
                self._take_out(room, agent, "CLIENT_INITIATED")

    def _assign(self, room: FakeRoom, dispatch: FakeDispatch, worker: FakeWorker) -> None:
        if worker.process is not Process.RUNNING:
            return
        if worker.for_publishers:
            dispatch.publisher_worker = worker
            for _ in room.people:
                self._serve_publisher(room, dispatch)
            return
        dispatch.job = self.fixed_identity or self._new_id("agent-AJ")
        self._clock.call_later(worker.joins_after_s, lambda: self._join_agent(room, dispatch, worker))

    def _join_agent(self, room: FakeRoom, dispatch: FakeDispatch, worker: FakeWorker) -> None:
        if self.rooms.get(room.name) is not room or worker.process is not Process.RUNNING:
            return
        ended_at = dispatch.job_ended_at
        if ended_at is not None and self._clock.now() - ended_at > _CANCELLED_AFTER_S * SECOND_US:
            return
        if present := room.participants.get(dispatch.job or ""):
            self._take_out(room, present, "DUPLICATE_IDENTITY")
        agent = self._put_agent_in(room, worker, dispatch.job or "")
        if worker.helper and dispatch.relieves in room.participants:
            self._take_over(room, agent, dispatch.relieves)
        if ended_at is not None:
            # It has loaded in the meantime, connects, and learns that its job is over.
            self._clock.call_later(0.1, lambda: self._take_out(room, agent, "CLIENT_INITIATED"))

    def _take_over(self, room: FakeRoom, agent: FakeAgent, former_identity: str) -> None:
        """Once loaded, the agent asks the one before to stop, and begins to answer."""
        agent.has_started = False

        def ask() -> None:
            former = room.participants.get(former_identity)
            if room.participants.get(agent.identity) is not agent or not agent.reacts:
                return
            if isinstance(former, FakeAgent) and former.reacts:
                former.session_open = False
                former.attributes["agent-lifecycle.leaving"] = "worker_shutdown"
                self._clock.call_later(
                    _LEAVES_AFTER_S, lambda: self._take_out(room, former, "CLIENT_INITIATED")
                )
            agent.has_started = True

        self._clock.call_later(max(_ASKS_AFTER_S, agent.worker.starts_after_s), ask)

    def _serve_publisher(self, room: FakeRoom, dispatch: FakeDispatch) -> None:
        worker = dispatch.publisher_worker
        if worker:
            identity = self._new_id("agent-AJ")

            def join() -> None:
                self.join_companion(room.name, dispatch, worker, identity)

            self._clock.call_later(worker.joins_after_s, join)

    def join_companion(
        self, room_name: str, dispatch: FakeDispatch, worker: FakeWorker, identity: str
    ) -> FakeAgent:
        """A worker of type PUBLISHER takes a further job of the dispatch, for another publisher."""
        dispatch.further_jobs.append(identity)
        return self._put_agent_in(self.rooms[room_name], worker, identity)

    def reconnect(self, room_name: str, identity: str) -> None:
        """An agent connects anew, as after a change of its network; its session goes on."""
        room = self.rooms[room_name]
        agent = room.participants[identity]
        self._take_out(room, agent, "DUPLICATE_IDENTITY")
        self.come_back(room_name, agent)

    def come_back(self, room_name: str, agent: FakeParticipant) -> None:
        """One who has been in some room of this name, such as before an outage, is in again."""
        back = replace(agent, sid=self._new_id("PA"), joined_at=self._now_ms())
        self._put_in(self.rooms[room_name], back)

    def join_avatar(self, room_name: str, agent: FakeAgent) -> FakeParticipant:
        avatar = FakeParticipant(
            sid=self._new_id("PA"),
            identity=f"avatar-of-{agent.identity}",
            joined_at=self._now_ms(),
            kind=ParticipantKind.DEPENDENT,
            attributes={"lk.publish_on_behalf": agent.identity},
        )
        self._put_in(self.rooms[room_name], avatar)
        return avatar

    def _put_agent_in(self, room: FakeRoom, worker: FakeWorker, identity: str) -> FakeAgent:
        first = next(iter(room.people), None)
        agent = FakeAgent(
            sid=self._new_id("PA"),
            identity=identity,
            joined_at=self._now_ms(),
            attributes={"lk.agent_name": worker.agent_name, "lk.agent.name": worker.agent_name}
            | ({"agent-lifecycle.memory": "on"} if worker.remembers else {}),
            agent_name=worker.agent_name,
            worker=worker,
            linked=first.identity if first else None,
            has_started=not worker.starts_after_s,
            waits=is_holding_room(room.name) and worker.helper and worker.can_wait,
        )
        self._put_in(room, agent)
        if worker.starts_after_s:
            self._clock.call_later(worker.starts_after_s, lambda: setattr(agent, "has_started", True))
        return agent

    def join_waiting(self, room_name: str, worker: FakeWorker, identity: str) -> FakeAgent:
        """A warm agent, in any room."""
        agent = self._put_agent_in(self.open_room(room_name), worker, identity)
        agent.waits = True
        return agent

    def claim(self, holding_room: FakeRoom, agent: FakeAgent, claim: str) -> bool:
        """Whether the agent goes where it is told; asked again with the same claim, it says the same."""
        told = json.loads(claim)
        if agent.claim is not None:
            return bool(agent.claim == told["claim"]) and (holding_room.sid, agent.identity) in self.elsewhere
        # Its times are those of the machine's clock, not of the test's.
        token = jwt.decode(
            told["token"],
            self._keypair.secret,
            algorithms=["HS256"],
            options={"verify_exp": False, "verify_nbf": False},
        )
        grants = token["video"]
        if (token["kind"], token["sub"], grants["room"], grants["agent"]) != (
            "agent",
            agent.identity,
            told["room"],
            True,
        ):
            return False
        agent.claim, agent.waits = told["claim"], False
        agent.attributes["agent-lifecycle.warm"] = "claimed"
        room = self.open_room(told["room"])
        if present := room.participants.get(agent.identity):
            self._take_out(room, present, "DUPLICATE_IDENTITY")
        came = self._put_agent_in(room, agent.worker, agent.identity)
        came.attributes |= token["attributes"]
        came.told, came.has_started = told, True
        self.elsewhere[room.sid, agent.identity] = holding_room
        self.elsewhere[holding_room.sid, agent.identity] = room
        return True

    def remove_participant(self, room_name: str, identity: str) -> bool:
        room = self.rooms.get(room_name)
        participant = room.participants.get(identity) if room else None
        if room is None or participant is None:
            return False
        self._take_out(room, participant, "PARTICIPANT_REMOVED")
        return True

    # Webhooks

    def _emit(
        self, event: str, room: FakeRoom, participant: FakeParticipant | None = None, reason: str = ""
    ) -> None:
        body = webhooks.render(event, self.now(), room, participant, reason)
        authorization = webhooks.sign(body, self._keypair)
        self._post(SignedWebhook(event=event, room_name=room.name, body=body, authorization=authorization))

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):06d}"

    def _now_ms(self) -> int:
        """LiveKit tells rooms' and participants' times in milliseconds."""
        return self.now() // 1_000 * 1_000
