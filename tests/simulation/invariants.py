"""The promises of design.md, section 2, as they can be seen from outside: at any moment, and after a calm."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

from app.lifecycle import LIVE_STATES, EndReason, Restart, State
from app.lifecycle.warm import HOLDING_PREFIX, is_holding_room
from fakes.rooms import FakeAgent, FakeRoom
from integration.harness import OTHER_AGENT
from simulation.world import AGENT_NAMES, INTERVAL_S, MAX_AGENTS, Want, World

Row = dict[str, Any]


def check_always(world: World) -> None:
    assert not world.problems, world.problems
    assert not world.journal.alarms, "\n".join(world.journal.alarms)
    for task in world.failed:
        raise task
    rows = world.database.rows("SELECT * FROM dispatches WHERE state != 'ended'")
    rooms = {row["sid"]: row for row in world.database.rows("SELECT * FROM rooms")}
    people = {
        row["room_sid"]: row["people"]
        for row in world.database.rows(
            "SELECT room_sid, count(*) AS people FROM participants"
            " WHERE left_at IS NULL AND kind = 'person' GROUP BY room_sid"
        )
    }
    live = [(row["room_name"], row["agent_name"]) for row in rows if row["state"] in LIVE_STATES]
    assert len(live) == len(set(live)), f"two live dispatches of one agent in one room: {rows}"
    for row in rows:
        _check_row(row, rooms, people.get(row["room_sid"], 0))
    _check_terms(world, rows)
    _check_answered(world)
    _check_limit(world, rows)


def _check_row(row: Row, rooms: dict[str, Row], people: int) -> None:
    state, is_live = row["state"], row["state"] in LIVE_STATES
    room = rooms.get(row["room_sid"])
    assert room, f"a dispatch outlived its room: {row}"
    assert room["finished_at"] is None, f"a dispatch outlived its room: {row}"
    assert row["participant_count"] == people, f"{people} people are in: {row}"
    if state == State.ON_HOLD:
        assert row["ttl_expires_at"] is row["due_at"] is row["dispatch_id"] is None, (
            f"a deadline or dispatch on hold: {row}"
        )
    elif is_live:
        assert (row["ttl_expires_at"] is None) == (people > 0), f"the TTL runs while nobody is in: {row}"
    if state == State.ACTIVE:
        assert people > 0, f"active without people: {row}"
        deadlines = {row["session_ends_at"], row["warn_at"]} - {None}
        assert row["due_at"] == min(deadlines, default=None), f"active with another deadline: {row}"
    elif state != State.ON_HOLD:
        assert row["due_at"] is not None, f"nothing would ever be done about it: {row}"
    if state == State.IDLE:
        assert people == 0, f"idle with people: {row}"
    if state in (State.ACTIVE, State.IDLE):
        assert row["agent_identity"], f"without an agent: {row}"
        assert row["dispatch_id"], f"without a dispatch: {row}"


def _check_terms(world: World, rows: list[Row]) -> None:
    """A dispatch keeps its terms, and hands them on, whatever the policy says by now."""
    if world.terms is None:
        return
    known = world.terms
    for row in rows:
        expected = known.get(row["id"], known.get(row["succeeds"], row["terms"]))
        assert row["terms"] == expected, f"its terms have changed from {expected}: {row}"
    world.terms = known | {row["id"]: row["terms"] for row in rows}


def _check_answered(world: World) -> None:
    """Promise 4: what was answered with 200 is stored."""
    stored = {row["id"] for row in world.database.rows("SELECT id FROM webhook_events")}
    missing = [
        letter
        for id_, letter in world.post.answered.items()
        if id_ not in stored and not is_holding_room(letter.event.room_name)
    ]
    assert not missing, f"answered with 200, and forgotten: {missing}"


def _check_limit(world: World, rows: list[Row]) -> None:
    """Agents that are adopted are not refused; after that there may be more."""
    world.is_capped &= not any(OTHER_AGENT in process.adopted for process in world.processes)
    rooms = {row["room_name"] for row in rows if row["agent_name"] == OTHER_AGENT}
    assert not world.is_capped or len(rooms) <= MAX_AGENTS, f"more agents than allowed: {rows}"


def check_timers(world: World) -> None:
    """Promise 7: where nothing is under way, the timers are the deadlines of the rows."""
    if not world.setting.mode.ends:
        # The timer of a deadline that is withheld stays down.
        return
    if world.replicas > 1 or not world.up or world.database_failed_lately(within_s=2 * INTERVAL_S):
        return
    timers = world.up[0].service.timers
    rows = world.database.rows("SELECT id, due_at, state FROM dispatches WHERE due_at IS NOT NULL")
    for row in rows:
        is_overdue = row["due_at"] <= world.clock.now()
        if is_overdue and timers.due_at(row["id"]) is None and world.livekit_failed_lately(INTERVAL_S):
            # LiveKit could not be asked before it was acted on: the next sweep does it.
            continue
        assert timers.due_at(row["id"]) == row["due_at"], f"no timer at its deadline: {row}"
    assert len(timers) <= len(rows), "a timer without a row"


def check_ledger(world: World) -> None:
    """What a dispatch has cost is its life, without the times in which it cost nothing."""
    spent = {
        row["dispatch_row_id"]: row["spent_us"]
        for row in world.database.rows(
            "SELECT dispatch_row_id, sum(starting_us + talked_us + idle_us + unvisited_us) AS spent_us"
            " FROM usage GROUP BY dispatch_row_id"
        )
    }
    lines: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in world.database.rows("SELECT dispatch_row_id, at, to_state FROM history ORDER BY id"):
        lines[line["dispatch_row_id"]].append((line["at"], line["to_state"]))
    for row in world.database.rows("SELECT * FROM dispatches"):
        until_at, own = row["accounted_at"], lines[row["id"]]
        assert row["ended_at"] in (None, until_at), f"not accounted to its end: {row}"
        stretches = pairwise([*own, (until_at, row["state"])])
        free = (State.UNAVAILABLE, State.ON_HOLD)
        free_us = sum(max(0, min(end, until_at) - at) for (at, state), (end, _) in stretches if state in free)
        assert spent.get(row["id"], 0) == until_at - own[0][0] - free_us, f"its costs do not add up: {row}"


def check_pool(world: World) -> None:
    """In quiet there is no holding room without its row, and no claimed agent without its dispatch."""
    rows = world.database.rows("SELECT * FROM warm_agents WHERE state != 'ended'")
    held = {room.name for room in world.holding_rooms}
    assert held <= {HOLDING_PREFIX + row["id"] for row in rows}, f"left for ever: {held}; {rows}"
    assert all(row["state"] not in ("creating", "ending") for row in rows), f"never done: {rows}"
    query = "SELECT id, holding_room FROM dispatches WHERE state NOT IN ('ended', 'on_hold')"
    claimants = {(row["id"], row["holding_room"]) for row in world.database.rows(query)}
    pooled = []
    for row in rows:
        if row["state"] == "claimed":
            assert (row["claimed_by"], HOLDING_PREFIX + row["id"]) in claimants, f"nobody's: {row}"
        else:
            pooled.append(row)
    most = world.warm if world.setting.mode.keeps_one else 0
    assert len(pooled) <= most, f"more than the policy wants: {pooled}"
    for row in world.database.rows(
        "SELECT * FROM warm_agents WHERE claimed_at IS NOT NULL OR state = 'ended'"
    ):
        spent = world.database.rows(
            "SELECT coalesce(sum(warm_us), 0) AS spent_us FROM usage WHERE dispatch_row_id = ?", row["id"]
        )
        until_at = row["claimed_at"] or row["ended_at"]
        assert spent[0]["spent_us"] == until_at - row["created_at"], f"its costs do not add up: {row}"


def check_calm(world: World, *, has_worker: dict[str, bool]) -> None:
    """What holds once everything is well, and a TTL and some intervals have passed."""
    if not world.setting.mode.ends:
        # Of what LiveKit has nothing is ended, so of the rows nothing more holds than always.
        return
    rows = world.database.rows("SELECT * FROM dispatches WHERE state != 'ended'")
    assert all(row["state"] != State.ENDING for row in rows), f"never ended: {rows}"
    held = {row["room_name"] for row in rows}
    assert held <= set(world.server.rooms), f"rows about rooms that do not exist: {rows}"
    for room in world.rooms_of_people:
        for agent_name in AGENT_NAMES:
            own = [r for r in rows if (r["room_name"], r["agent_name"]) == (room.name, agent_name)]
            is_on_hold = [r["state"] for r in own] == [State.ON_HOLD]
            if (room.name, agent_name) in world.held:
                assert is_on_hold, f"a hold that nobody ended is over: {agent_name} in {room}: {own}"
            if is_on_hold:
                agents = [agent for agent in room.agents if agent.agent_name == agent_name]
                assert not agents, f"on hold, and an agent is in: {agents} in {room}"
            elif own:
                _check_row_in_calm(world, room, own[0], has_worker=has_worker[agent_name])
            else:
                want = world.wants[room.name, agent_name]
                # An agent that died is not replaced then, and nobody has ever ended the wish for it.
                is_owed = world.setting.restart is not Restart.NEVER
                waits = room.people and want is Want.YES and is_owed and not _is_over(world, room, agent_name)
                assert not waits, f"promise 5, people wait for an agent: {agent_name} in {room}"


def check_long_calm(world: World) -> None:
    """What holds once every room has been looked at: the tables are LiveKit's truth, whoever made it."""
    open_rooms = world.database.rows("SELECT * FROM rooms WHERE finished_at IS NULL")
    assert {row["sid"] for row in open_rooms} == {room.sid for room in world.rooms_of_people}
    known = world.database.rows(
        "SELECT p.sid FROM participants AS p JOIN rooms AS r ON r.sid = p.room_sid"
        " WHERE p.left_at IS NULL AND r.finished_at IS NULL"
    )
    present = {one.sid for room in world.rooms_of_people for one in room.participants.values()}
    assert {row["sid"] for row in known} == present, "the table is not LiveKit's truth"
    if not world.setting.mode.ends:
        return
    rows = world.database.rows("SELECT * FROM dispatches WHERE state != 'ended'")
    tracked = {row["dispatch_id"] for row in rows if row["dispatch_id"]}
    identities = {row["agent_identity"] for row in rows if row["agent_identity"]}
    for room in world.rooms_of_people:
        strays = [one for one in room.dispatches.values() if one.id not in tracked]
        assert not strays, f"dispatches that nobody looks after: {strays} in {room}"
        unknown = [agent for agent in room.agents if agent.identity not in identities]
        assert not unknown, f"promises 1 and 3, agents that nobody looks after: {unknown} in {room}"


def _check_row_in_calm(world: World, room: FakeRoom, row: Row, *, has_worker: bool) -> None:
    agent_name = row["agent_name"]
    want = world.wants[room.name, agent_name]
    agents = [agent for agent in room.agents if agent.agent_name == agent_name]
    job_rooms = [room, *(held for held in world.holding_rooms if held.name == row["holding_room"])]
    dispatches = [dispatch for one in job_rooms for dispatch in one.dispatches.values()]
    listed = [dispatch.id for dispatch in dispatches if dispatch.agent_name == agent_name]
    about = f"{agent_name} in {room}; {want}; agents {agents}; row {row}"
    assert room.people, f"promise 3, a dispatch for nobody: {about}"
    assert want is not Want.NO, f"an agent that nobody asked for: {about}"
    if row["state"] == State.ACTIVE:
        assert [agent.identity for agent in agents] == [row["agent_identity"]], f"not exactly one: {about}"
        assert listed == [row["dispatch_id"]], f"not exactly one dispatch: {about}"
        assert _answers(world, agents[0]), f"promise 5, an agent that does not answer: {about}"
        assert row["ready_at"] is not None, f"nobody has found out that the agent answers: {about}"
    else:
        assert not has_worker, f"promise 5, there is a worker, but no agent: {about}"
        assert not agents, f"promise 5, an agent in the room is taken for none: {about}"


def _is_over(world: World, room: FakeRoom, agent_name: str) -> bool:
    """Whether the last session has had its time: the next agent comes with the next call."""
    query = (
        "SELECT end_reason FROM dispatches WHERE room_name = ? AND agent_name = ?"
        " ORDER BY ended_at DESC LIMIT 1"
    )
    last = world.database.rows(query, room.name, agent_name)
    return bool(last) and last[0]["end_reason"] == EndReason.MAX_SESSION


def _answers(world: World, agent: FakeAgent) -> bool:
    if not agent.reacts:
        return False
    # A plain agent whose user came and went without a trace cannot be told from one that is well.
    return agent.session_open or world.is_deaf_unseen(agent)
