"""The service in a simulated world where everything goes wrong in any order, and its eight promises hold.

A failure prints the steps that lead to it, as few as hypothesis finds, what happened in the world, and the
blob that runs it again. With `SIMULATION_EXAMPLES` there are so many worlds, chosen anew in each run, of up
to `SIMULATION_STEPS` steps each; without it as many as tests/sizes.py says, and always the same.
"""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.lifecycle import Restart
from app.lifecycle.mode import Mode
from fakes.rooms import Process as WorkerProcess
from simulation import invariants
from simulation.database import write_template
from simulation.post import Letter, Service
from simulation.process import Ill
from simulation.world import AGENT_NAMES, TTL_S, Setting, World
from sizes import SIZES

EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", SIZES.worlds))
STEPS = int(os.environ.get("SIMULATION_STEPS", SIZES.steps))

ROOMS = ("lobby", "attic")
PEOPLE = ("alice", "bob")
rooms, people, agents = st.sampled_from(ROOMS), st.sampled_from(PEOPLE), st.sampled_from(AGENT_NAMES)
mostly_default = st.sampled_from((AGENT_NAMES[0], AGENT_NAMES[0], AGENT_NAMES[0], AGENT_NAMES[1]))
positions = st.integers(0, 63)
leaves = st.sampled_from(("CLIENT_INITIATED", "CLIENT_INITIATED", "CONNECTION_TIMEOUT", "STATE_MISMATCH"))
#: How long what a step begins may go on before the next: some rounds of the loop, or until all is quiet.
pauses = st.sampled_from((None, None, None, 0, 1, 2, 3, 5, 8, 13))


class Simulation(RuleBasedStateMachine):
    #: Where the databases are, and how many steps were taken: set by the test.
    folder: Path
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(
        seed=st.integers(0, 2**32 - 1),
        replicas=st.sampled_from((1, 1, 1, 2)),
        helpers=st.tuples(st.booleans(), st.booleans()),
        livekit_ahead_s=st.sampled_from((0, 0, 3_600, -3_600)),
        mode=st.sampled_from((*[Mode.ENFORCE] * 4, Mode.REUSE, Mode.OBSERVE)),
        restart=st.sampled_from((Restart.ON_FAILURE, Restart.ON_FAILURE, Restart.ALWAYS, Restart.NEVER)),
        closes_with_user=st.sampled_from((True, True, True, False)),
        keeps_attributes=st.sampled_from((True, True, True, False)),
        has_limits=st.booleans(),
        warm=st.sampled_from((0, 0, 1, 2)),
    )
    def begin(
        self,
        seed: int,
        replicas: int,
        helpers: tuple[bool, bool],
        livekit_ahead_s: int,
        mode: Mode,
        restart: Restart,
        closes_with_user: bool,  # noqa: FBT001 - hypothesis passes by name
        keeps_attributes: bool,  # noqa: FBT001
        has_limits: bool,  # noqa: FBT001
        warm: int,
    ) -> None:
        setting = Setting(
            seed=seed,
            replicas=replicas,
            livekit_ahead_s=livekit_ahead_s,
            mode=mode,
            restart=restart,
            closes_with_user=closes_with_user,
            keeps_attributes=keeps_attributes,
            has_limits=has_limits,
            warm=warm,
        )
        world = World(self.folder / "world.db", self.folder / "template.db", setting)
        self.world = world
        for agent_name, helper in zip(AGENT_NAMES, helpers, strict=True):
            world.server.start_worker(agent_name, helper=helper)
        world.loop.finish(world.fill_up())
        self._go_on(None)

    # People

    @rule(room=rooms, who=people, is_phone=st.sampled_from((False, False, True)), pause=pauses)
    def somebody_joins(self, room: str, who: str, is_phone: bool, pause: int | None) -> None:  # noqa: FBT001 - hypothesis passes by name
        self.here.somebody_joins(room, who, is_phone=is_phone)
        self._go_on(pause)

    @rule(room=rooms, who=people, reason=leaves, pause=pauses)
    def somebody_leaves(self, room: str, who: str, reason: str, pause: int | None) -> None:
        found = self.here.server.rooms.get(room)
        if found and who in found.participants:
            self.here.server.leave(room, who, reason)
        self._go_on(pause)

    @rule(room=rooms, who=people, pause=pauses)
    def somebody_refreshes(self, room: str, who: str, pause: int | None) -> None:
        found = self.here.server.rooms.get(room)
        if found and who in found.participants:
            self.here.server.leave(room, who)
            self._pass(0.1)
            self.here.somebody_joins(room, who)
        self._go_on(pause)

    @rule(room=rooms, pause=pauses)
    def everybody_leaves(self, room: str, pause: int | None) -> None:
        found = self.here.server.rooms.get(room)
        for person in found.people if found else ():
            self.here.server.leave(room, person.identity)
        self._go_on(pause)

    # Callers

    @rule(room=rooms, agent=mostly_default, callers=st.integers(1, 3), pause=pauses)
    def agent_is_asked_for(self, room: str, agent: str, callers: int, pause: int | None) -> None:
        for _ in range(callers):
            self.here.send(self.here.call(room, agent))
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.setting.has_limits)
    @rule(pause=pauses)
    def limited_agent_is_asked_for_everywhere(self, pause: int | None) -> None:
        for room in ROOMS:
            self.here.send(self.here.call(room, AGENT_NAMES[1]))
        self._go_on(pause)

    @rule(room=rooms, who=people, agent=mostly_default, pause=pauses)
    def somebody_comes_for_an_agent(self, room: str, who: str, agent: str, pause: int | None) -> None:
        self.here.send(self.here.call(room, agent))
        self.here.somebody_joins(room, who)
        self._go_on(pause)

    @rule(room=rooms, agent=mostly_default, pause=pauses)
    def agent_is_ended(self, room: str, agent: str, pause: int | None) -> None:
        self.here.send(self.here.end(room, agent))
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.tracked())
    @rule(position=positions, pause=pauses)
    def human_takes_over(self, position: int, pause: int | None) -> None:
        tracked = self.here.tracked()
        self.here.send(self.here.hold(*tracked[position % len(tracked)]))
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.held)
    @rule(position=positions, who=people, pause=pauses)
    def somebody_refreshes_on_hold(self, position: int, who: str, pause: int | None) -> None:
        held = sorted(self.here.held)
        room, agent = held[position % len(held)]
        # The hold may have been granted while its room closed.
        found = self.here.server.rooms.get(room)
        for person in found.people if found else ():
            self.here.server.leave(room, person.identity)
        self._pass(0.1)
        self.here.send(self.here.call(room, agent))
        self.here.somebody_joins(room, who)
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.hold_wishes)
    @rule(position=positions, pause=pauses)
    def human_hands_back(self, position: int, pause: int | None) -> None:
        held = list(self.here.hold_wishes)
        self.here.send(self.here.resume(*held[position % len(held)]))
        self._go_on(pause)

    # The post

    @rule(service=st.sampled_from((Service.PROMPT, Service.HELD, Service.HELD, Service.LOST)))
    def post_changes(self, service: Service) -> None:
        self.here.post.service = service

    @precondition(lambda self: self.world and self.world.post.held)
    @rule(position=positions, again=st.booleans(), pause=pauses)
    def letter_comes(self, position: int, again: bool, pause: int | None) -> None:  # noqa: FBT001 - hypothesis passes by name
        held = self.here.post.held
        letter = held[position % len(held)] if again else held.pop(position % len(held))
        self._deliver([letter])
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.post.held)
    @rule(backwards=st.booleans(), pause=pauses)
    def all_letters_come(self, backwards: bool, pause: int | None) -> None:  # noqa: FBT001 - as above
        letters, self.here.post.held = self.here.post.held, []
        self._deliver(letters[::-1] if backwards else letters)
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.post.held)
    @rule(position=positions)
    def letter_is_lost(self, position: int) -> None:
        held = self.here.post.held
        self.here.post.lost.append(held.pop(position % len(held)))

    @precondition(lambda self: self.world and (self.world.post.answered or self.world.post.lost))
    @rule(position=positions, pause=pauses)
    def old_letter_comes(self, position: int, pause: int | None) -> None:
        post = self.here.post
        letters = [*post.answered.values(), *post.lost]
        self._deliver([letters[-1 - position % len(letters)]])
        self._go_on(pause)

    # Workers and agents

    @rule(agent=agents, helper=st.booleans(), slow=st.booleans())
    def worker_starts(self, agent: str, helper: bool, slow: bool) -> None:  # noqa: FBT001 - as above
        if len(self.here.workers(agent)) < 3:
            self.here.server.start_worker(
                agent, helper=helper, joins_after_s=4.0 if slow else 0.4, remembers=helper
            )

    @rule(agent=agents, pause=pauses)
    def worker_is_killed(self, agent: str, pause: int | None) -> None:
        for worker in self.here.workers(agent)[:1]:
            self.here.server.kill(worker)
            self.here.server.note_unwell(worker)
        self._go_on(pause)

    @rule(agent=agents, pause=pauses)
    def worker_freezes(self, agent: str, pause: int | None) -> None:
        for worker in self.here.workers(agent)[:1]:
            self.here.server.freeze(worker)
        self._go_on(pause)

    @rule(agent=agents, pause=pauses)
    def worker_is_emptied(self, agent: str, pause: int | None) -> None:
        for worker in self.here.workers(agent)[:1]:
            self.here.drain(worker)
        self._go_on(pause)

    @rule(pause=pauses)
    def frozen_workers_thaw(self, pause: int | None) -> None:
        for worker in self.here.server.workers:
            if worker.process is WorkerProcess.FROZEN:
                self.here.server.note_unwell(worker)
                worker.process = WorkerProcess.RUNNING
        self._go_on(pause)

    @rule(
        room=rooms,
        agent=mostly_default,
        kind=st.sampled_from(("finished", "failed", "shutdown", "")),
        pause=pauses,
    )
    def agent_leaves(self, room: str, agent: str, kind: str, pause: int | None) -> None:
        self.here.agent_leaves(room, agent, kind)
        self._go_on(pause)

    @rule(room=rooms, agent=mostly_default, pause=pauses)
    def agent_connects_anew(self, room: str, agent: str, pause: int | None) -> None:
        for one in self.here.agents(room, agent)[:1]:
            self.here.server.reconnect(room, one.identity)
        self._go_on(pause)

    @rule(room=rooms, agent=mostly_default, pause=pauses)
    def somebody_takes_an_agents_identity(self, room: str, agent: str, pause: int | None) -> None:
        for one in self.here.agents(room, agent)[:1]:
            self.here.somebody_joins(room, one.identity)
        self._go_on(pause)

    # Others

    @rule(room=rooms, agent=mostly_default, count=st.integers(1, 2), pause=pauses)
    def others_dispatch(self, room: str, agent: str, count: int, pause: int | None) -> None:
        self.here.others_dispatch(room, agent, count)
        self._go_on(pause)

    @rule(room=rooms, agent=mostly_default, pause=pauses)
    def others_delete(self, room: str, agent: str, pause: int | None) -> None:
        self.here.others_delete(room, agent)
        self._go_on(pause)

    @rule(room=rooms, pause=pauses)
    def room_is_deleted(self, room: str, pause: int | None) -> None:
        if room in self.here.server.rooms:
            self.here.server.delete_room(room)
        self._go_on(pause)

    # LiveKit and the database

    @rule(ill=st.sampled_from(list(Ill)), calls=st.sampled_from((1, 1, 2, 3, 5, None)))
    def livekit_falls_ill(self, ill: Ill, calls: int | None) -> None:
        for process in self.here.processes:
            process.weather.turn(ill, calls)

    @rule()
    def livekit_recovers(self) -> None:
        for process in self.here.processes:
            process.weather.turn(None)

    @rule()
    def database_fails(self) -> None:
        self.here.database.down = True

    @rule()
    def database_recovers(self) -> None:
        self.here.mend_database()

    @rule(took_effect=st.booleans())
    def commit_breaks(self, took_effect: bool) -> None:  # noqa: FBT001 - as above
        self.here.database.broken_commits = [took_effect]

    # The service

    @precondition(lambda self: self.world and self.world.up)
    @rule(seams=st.integers(0, 40), position=positions)
    def service_will_be_killed(self, seams: int, position: int) -> None:
        up = self.here.up
        up[position % len(up)].seams_left = seams

    @precondition(lambda self: self.world and self.world.up)
    @rule(rounds=st.integers(0, 10), position=positions)
    def service_is_killed(self, rounds: int, position: int) -> None:
        self._go_on(rounds)
        up = self.here.up
        if up:
            up[position % len(up)].kill()
        self._go_on(None)

    @precondition(lambda self: self.world and self.world.up)
    @rule(position=positions)
    def service_is_stopped(self, position: int) -> None:
        up = self.here.up
        self.here.loop.finish(up[position % len(up)].stop())

    @precondition(lambda self: self.world and len(self.world.up) < self.world.replicas)
    @rule(pause=pauses)
    def service_starts(self, pause: int | None) -> None:
        self.here.loop.finish(self.here.fill_up())
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.setting.has_limits)
    @rule(limits=st.booleans(), update=st.booleans(), pause=pauses)
    def policy_is_reloaded(self, limits: bool, update: bool, pause: int | None) -> None:  # noqa: FBT001 - as above
        self.here.reload(limits=limits, update=update)
        self._go_on(pause)

    # The pool

    @precondition(lambda self: self.world and self.world.setting.warm)
    @rule(warm=st.sampled_from((0, 1, 2)), pause=pauses)
    def pool_changes(self, warm: int, pause: int | None) -> None:
        self.here.change_pool(warm)
        self._go_on(pause)

    @precondition(lambda self: self.world and self.world.holding_rooms)
    @rule(position=positions, whole=st.booleans(), pause=pauses)
    def others_meddle_with_the_pool(self, position: int, whole: bool, pause: int | None) -> None:  # noqa: FBT001 - as above
        rooms = self.here.holding_rooms
        self.here.meddle(rooms[position % len(rooms)], whole=whole)
        self._go_on(pause)

    # Time

    @rule(seconds=st.sampled_from((0.05, 0.3, 1.0, 3.0, 6.5, 12.0, 25.0)))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @rule()
    def ttl_passes(self) -> None:
        self._pass(TTL_S + 1.0)

    @rule(lost=st.booleans(), worker=st.booleans(), long=st.sampled_from((False, False, True)))
    def calm(self, lost: bool, worker: bool, long: bool) -> None:  # noqa: FBT001 - as above
        has_worker = self.here.calm(lost=lost, worker=worker, long=long)
        invariants.check_always(self.here)
        invariants.check_timers(self.here)
        invariants.check_ledger(self.here)
        invariants.check_pool(self.here)
        invariants.check_calm(self.here, has_worker=has_worker)
        if long:
            invariants.check_long_calm(self.here)

    # What holds

    @invariant()
    def promises_hold(self) -> None:
        if self.world:
            type(self).steps += 1
            invariants.check_always(self.world)

    def teardown(self) -> None:
        if self.world:
            note("\n".join(self.world.journal.lines[-200:]))
            self.world.dispose()

    @property
    def here(self) -> World:
        assert self.world
        return self.world

    def _deliver(self, letters: list[Letter]) -> None:
        for letter in letters:
            self.here.send(self.here.post.deliver_or_hold(letter))

    def _go_on(self, pause: int | None) -> None:
        self.here.go_on(pause)
        if pause is None:
            invariants.check_timers(self.here)

    def _pass(self, seconds: float) -> None:
        self.here.clock.advance(seconds)
        self._go_on(None)


@pytest.mark.timeout(0 if "SIMULATION_EXAMPLES" in os.environ else 1_200)
def test_the_promises_hold_whatever_happens_in_any_order(tmp_path: Path) -> None:
    asyncio.run(write_template(tmp_path / "template.db"))
    Simulation.folder, Simulation.steps = tmp_path, 0
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize="SIMULATION_EXAMPLES" not in os.environ,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Simulation, settings=profile)
    assert Simulation.steps >= SIZES.steps_in_all
