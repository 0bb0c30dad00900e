"""What LiveKit does, asserted of the fake and of the real server alike."""

import json

import pytest

from app.clock import SteadyClock
from app.control.session_warnings import warning_text
from app.errors import LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable
from app.lifecycle import UNTOLD, Briefing
from app.lifecycle.warm import WarmAgent
from app.livekit.agent_tokens import AgentTokens
from app.livekit.interface import ClaimAnswer, Hearing, Probe
from app.state.presence import ParticipantKind
from contract.stage import (
    HELPER_AGENT,
    PLAIN_AGENT,
    WARM_AGENT,
    Stage,
    agents,
    identity_of_agent,
    jobs_shown,
)
from devstack.obedient_worker import CONNECT_FIRST

NOBODY = "agent-without-a-worker"
WARNING = warning_text(ends_at=1_700_000_000_000_000, now=1_699_999_970_000_000)


async def create(stage: Stage, agent_name: str = HELPER_AGENT, row_id: str = "row-1") -> str:
    dispatch = await stage.livekit.create_dispatch(stage.room, agent_name, row_id, UNTOLD)
    assert (dispatch.agent_name, dispatch.row_id) == (agent_name, row_id)
    return dispatch.id


async def no_agents(stage: Stage) -> None:
    async def are_gone() -> bool:
        return not await agents(stage)

    await stage.until(are_gone, "the agents are gone")


# Rooms


async def test_a_missing_room_is_none(stage: Stage) -> None:
    assert await stage.livekit.find_room(stage.room) is None
    assert stage.room not in {room.name for room in await stage.livekit.list_rooms()}


async def test_a_room_is_made_with_the_timeout_and_found(stage: Stage) -> None:
    made = await stage.livekit.ensure_room(stage.room, 360)

    assert (made.name, made.departure_timeout_s) == (stage.room, 360)
    assert made.sid.startswith("RM_")
    assert await stage.livekit.find_room(stage.room) == made
    assert made in await stage.livekit.list_rooms()


async def test_a_room_that_exists_is_left_as_it_is(stage: Stage) -> None:
    made = await stage.livekit.ensure_room(stage.room, 100)

    assert await stage.livekit.ensure_room(stage.room, 900) == made


async def test_a_room_made_again_is_another_and_newer(stage: Stage) -> None:
    first = await stage.livekit.ensure_room(stage.room, 60)
    await stage.delete_room()

    async def is_gone() -> bool:
        return await stage.livekit.find_room(stage.room) is None

    await stage.until(is_gone, "the room is gone")

    async def is_newer() -> bool:
        again = await stage.livekit.ensure_room(stage.room, 60)
        return again.sid != first.sid and again.created_at >= first.created_at

    await stage.until(is_newer, "it is another")


async def test_a_dispatch_makes_a_missing_room_with_livekits_own_timeout(stage: Stage) -> None:
    await create(stage, NOBODY)
    room = await stage.livekit.find_room(stage.room)

    assert room is not None
    assert room.departure_timeout_s == 20


async def test_a_room_closes_when_its_last_person_is_away_for_the_timeout(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 2)
    await stage.join()
    await create(stage)
    await identity_of_agent(stage)
    await stage.leave()

    async def is_gone() -> bool:
        return await stage.livekit.find_room(stage.room) is None

    await stage.until(is_gone, "the room closes")
    assert await agents(stage) == []


# Asking about a room that is not there


async def test_nobody_is_in_a_missing_room(stage: Stage) -> None:
    assert await stage.livekit.list_participants(stage.room) == ()
    assert await stage.livekit.remove_participant(stage.room, "alice") is False


async def test_dispatches_of_a_missing_room_cannot_be_asked_for(stage: Stage) -> None:
    with pytest.raises(LiveKitUnavailable) as caught:
        await stage.livekit.list_dispatches(stage.room)
    assert not isinstance(caught.value, LiveKitTimeout | LiveKitUnreachable)
    with pytest.raises(LiveKitUnavailable) as caught:
        await stage.livekit.delete_dispatch(stage.room, "AD_unknown")
    assert not isinstance(caught.value, LiveKitTimeout | LiveKitUnreachable)


async def test_who_is_not_in_cannot_be_asked(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    with pytest.raises(LiveKitUnavailable):
        await stage.livekit.probe(stage.room, "agent-nobody")
    with pytest.raises(LiveKitUnavailable):
        await stage.livekit.warn(stage.room, "agent-nobody", WARNING)
    with pytest.raises(LiveKitUnavailable):
        await stage.livekit.claim(stage.room, "agent-nobody", "{}")
    assert await stage.livekit.remove_participant(stage.room, "agent-nobody") is False


# Dispatches


async def test_a_dispatch_is_listed_with_what_it_was_given(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    assert await stage.livekit.list_dispatches(stage.room) == ()
    dispatch_id = await create(stage, NOBODY, "row-7")

    (listed,) = await stage.livekit.list_dispatches(stage.room)

    assert (listed.id, listed.agent_name, listed.row_id) == (dispatch_id, NOBODY, "row-7")
    assert listed.agent_identities == ()


async def test_a_dispatch_is_listed_with_what_its_job_is_told(stage: Stage) -> None:
    told = Briefing(metadata='{"customer": 4711}', attributes='{"tier":"gold"}', deployment="blue")
    made = await stage.livekit.create_dispatch(stage.room, NOBODY, "row-1", told)

    (listed,) = await stage.livekit.list_dispatches(stage.room)

    assert made.briefing == listed.briefing == told


async def test_dispatches_are_never_merged(stage: Stage) -> None:
    """One after the other: of several at once a worker may decline all but the first."""
    ids = set()
    for count in (1, 2, 3):
        ids.add(await create(stage, row_id="the same row"))

        async def all_are_in(count: int = count) -> bool:
            return len(await agents(stage)) == count

        await stage.until(all_are_in, f"{count} agents")
    assert len(ids) == 3


async def test_the_first_dispatch_of_a_name_hides_its_job_while_the_agent_is_in_already(
    stage: Stage,
) -> None:
    name = f"first-{stage.room}"
    await stage.start_worker(name)
    dispatch_id = await create(stage, name)
    identity = await identity_of_agent(stage)
    (listed,) = await stage.livekit.list_dispatches(stage.room)
    assert listed.agent_identities == ()

    await jobs_shown(stage, dispatch_id)

    (listed,) = await stage.livekit.list_dispatches(stage.room)
    assert listed.agent_identities == (identity,)
    (agent,) = await agents(stage)
    assert agent.agent_name == name
    assert agent.sid.startswith("PA_")
    assert agent.joined_at is not None
    assert agent.joined_at + 1_000 >= listed.created_at


async def test_the_next_dispatch_of_a_name_shows_its_job_before_its_agent_is_in(stage: Stage) -> None:
    """LiveKit remembers for a minute who serves the name: a listed job without an agent is no failure."""
    name = f"next-{stage.room}"
    await stage.start_worker(name)
    await jobs_shown(stage, await create(stage, name))
    # On a busy machine an agent may be in before anybody has looked.
    for count in range(1, 6):

        async def all_are_in(count: int = count) -> bool:
            return len(await agents(stage)) == count

        await stage.until(all_are_in, f"{count} agents")
        await jobs_shown(stage, await create(stage, name))
        if len(await agents(stage)) == count:
            return
    pytest.fail("no job was shown before its agent was in")


async def test_a_dispatch_without_a_worker_stays_and_no_later_worker_gets_it(stage: Stage) -> None:
    name = f"late-{stage.room}"
    waiting = await create(stage, name)
    await stage.start_worker(name)
    served = await create(stage, name)
    await jobs_shown(stage, served)
    await identity_of_agent(stage)

    listed = {one.id: one.agent_identities for one in await stage.livekit.list_dispatches(stage.room)}

    assert listed[waiting] == ()


async def test_a_dispatch_goes_to_workers_of_its_deployment_and_to_no_other(stage: Stage) -> None:
    name = f"split-{stage.room}"
    await stage.start_worker_of(name, "v2")
    made = ""
    for deployment in ("", "v1", "v2"):
        told = Briefing(deployment=deployment)
        made = (await stage.livekit.create_dispatch(stage.room, name, f"row-{deployment}", told)).id
    # The others, which are older, would show theirs by then.
    await jobs_shown(stage, made)
    await identity_of_agent(stage)

    listed = await stage.livekit.list_dispatches(stage.room)

    taken = {one.briefing.deployment: len(one.agent_identities) for one in listed}
    assert taken == {"": 0, "v1": 0, "v2": 1}


async def test_deleting_a_dispatch_takes_its_agent_out(stage: Stage) -> None:
    dispatch_id = await create(stage)
    await jobs_shown(stage, dispatch_id)

    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True
    await no_agents(stage)
    assert await stage.livekit.list_dispatches(stage.room) == ()


async def test_the_agent_of_a_young_dispatch_leaves_at_some_time_after_it(stage: Stage) -> None:
    """At once, or at the 5 s mark: as long as LiveKit hid the job, of the first dispatch in a minute."""
    dispatch_id = await create(stage)
    await identity_of_agent(stage)

    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True
    assert await stage.livekit.list_dispatches(stage.room) == ()
    await no_agents(stage)


async def test_deleting_a_dispatch_ends_a_job_whose_agent_is_not_in_yet(stage: Stage) -> None:
    """The agent connects once it has loaded, learns that its job is over, and leaves at once."""
    name = f"slow-{stage.room}"
    await stage.livekit.ensure_room(stage.room, 60)
    await stage.start_slow_worker(name, 7)
    dispatch_id = await create(stage, name)
    await jobs_shown(stage, dispatch_id)
    (listed,) = await stage.livekit.list_dispatches(stage.room)
    assert await agents(stage) == []
    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True

    def told(event: str) -> list[str]:
        return [body["participant"]["identity"] for body in stage.webhooks() if body["event"] == event]

    async def has_left() -> bool:
        return told("participant_left") == list(listed.agent_identities)

    await stage.until(has_left, "the agent has come and gone")
    assert told("participant_joined") == list(listed.agent_identities)
    assert await agents(stage) == []


async def test_a_dispatch_to_publishers_has_a_job_for_each(stage: Stage) -> None:
    name = f"publisher-{stage.room}"
    await stage.start_publisher_worker(name)
    await stage.livekit.ensure_room(stage.room, 60)
    dispatch_id = await create(stage, name)
    for count, identity in enumerate(("alice", "bob"), 1):
        await stage.join(identity)

        async def one_for_each(count: int = count) -> bool:
            return len(await agents(stage)) == count

        await stage.until(one_for_each, f"{count} agents")

    async def both_are_listed() -> bool:
        (listed,) = await stage.livekit.list_dispatches(stage.room)
        return len(listed.agent_identities) == 2

    await stage.until(both_are_listed, "the dispatch shows both jobs")
    (listed,) = await stage.livekit.list_dispatches(stage.room)
    assert set(listed.agent_identities) == {one.identity for one in await agents(stage)}
    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True
    await no_agents(stage)


async def test_a_dispatch_that_is_not_there_is_false(stage: Stage) -> None:
    dispatch_id = await create(stage, NOBODY)

    assert await stage.livekit.delete_dispatch(stage.room, "AD_unknown") is False
    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True
    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is False


async def test_an_agent_can_be_taken_out(stage: Stage) -> None:
    dispatch_id = await create(stage)
    identity = await identity_of_agent(stage)

    assert await stage.livekit.remove_participant(stage.room, identity) is True
    await no_agents(stage)
    assert await stage.livekit.remove_participant(stage.room, identity) is False
    assert [one.id for one in await stage.livekit.list_dispatches(stage.room)] == [dispatch_id]


# People


async def test_people_are_told_from_agents(stage: Stage) -> None:
    await stage.join()
    await stage.join("bob")
    await create(stage)
    await identity_of_agent(stage)

    found = await stage.livekit.list_participants(stage.room)

    assert sorted(one.kind for one in found) == [
        ParticipantKind.AGENT,
        ParticipantKind.PERSON,
        ParticipantKind.PERSON,
    ]
    people = [one for one in found if one.kind is ParticipantKind.PERSON]
    assert {(one.identity, one.agent_name) for one in people} == {("alice", None), ("bob", None)}
    assert len({one.sid for one in found}) == 3
    assert all(one.joined_at for one in found)


async def test_an_avatar_is_neither_an_agent_nor_a_person(stage: Stage) -> None:
    await create(stage)
    identity = await identity_of_agent(stage)
    await stage.join_avatar(identity)

    (agent,) = await agents(stage)
    assert agent.identity == identity
    found = await stage.livekit.list_participants(stage.room)
    (avatar,) = [one for one in found if one.kind is not ParticipantKind.AGENT]
    assert (avatar.kind, avatar.on_behalf_of) == (ParticipantKind.DEPENDENT, identity)
    assert await stage.livekit.list_people(stage.room) == frozenset()


async def test_the_people_who_are_in_are_known_by_identity(stage: Stage) -> None:
    assert await stage.livekit.list_people(stage.room) == frozenset()
    await stage.join()
    await stage.join("bob")
    await create(stage)
    await identity_of_agent(stage)
    assert await stage.livekit.list_people(stage.room) == {"alice", "bob"}
    await stage.leave()

    async def alice_is_out() -> bool:
        return await stage.livekit.list_people(stage.room) == {"bob"}

    await stage.until(alice_is_out, "only bob is in")


async def test_who_comes_back_has_another_sid(stage: Stage) -> None:
    await stage.join()
    (before,) = await stage.livekit.list_participants(stage.room)
    await stage.leave()
    await stage.join()

    async def is_another() -> bool:
        sids = [one.sid for one in await stage.livekit.list_participants(stage.room)]
        return len(sids) == 1 and sids != [before.sid]

    await stage.until(is_another, "another sid is in")


# Whether an agent is well


async def probed(stage: Stage, identity: str, expected: Probe) -> None:
    """In its first moments an agent may not be reachable, or not have its method yet."""

    async def is_so() -> bool:
        return await stage.livekit.probe(stage.room, identity) is expected

    await stage.until(is_so, f"the probe says {expected}")


async def test_an_agent_with_the_helper_says_that_its_session_is_open(stage: Stage) -> None:
    await stage.join()
    await create(stage)
    identity = await identity_of_agent(stage)

    await probed(stage, identity, Probe.OPEN)
    await stage.leave()
    await probed(stage, identity, Probe.OPEN)


async def test_an_agent_with_the_helper_says_when_its_session_has_started(stage: Stage) -> None:
    name = f"slow-{stage.room}"
    await stage.start_worker_with_slow_sessions(name)
    briefing = Briefing(metadata=CONNECT_FIRST)
    await stage.livekit.create_dispatch(stage.room, name, "row-1", briefing)
    identity = await identity_of_agent(stage)
    await probed(stage, identity, Probe.STARTING)
    (agent,) = await agents(stage)
    assert not agent.has_session

    await stage.let_sessions_start()

    await probed(stage, identity, Probe.OPEN)


async def test_a_default_agent_reports_that_its_session_has_started(stage: Stage) -> None:
    await create(stage, PLAIN_AGENT)

    async def is_reported() -> bool:
        return [agent.has_session for agent in await agents(stage)] == [True]

    await stage.until(is_reported, "the agent reports its session")


async def test_a_default_agent_is_alive_and_in_also_when_its_session_has_closed(stage: Stage) -> None:
    """Nothing that LiveKit says tells the closed session from the open one."""
    await stage.join()
    await create(stage, PLAIN_AGENT)
    identity = await identity_of_agent(stage)
    await probed(stage, identity, Probe.ALIVE)
    await stage.leave()

    await probed(stage, identity, Probe.ALIVE)
    assert [agent.identity for agent in await agents(stage)] == [identity]


async def test_a_frozen_agent_is_silent_and_in(stage: Stage) -> None:
    name = f"frozen-{stage.room}"
    await stage.start_worker(name)
    await create(stage, name)
    identity = await identity_of_agent(stage)
    await probed(stage, identity, Probe.OPEN)
    await stage.freeze_worker()

    assert await stage.livekit.probe(stage.room, identity) is Probe.SILENT
    assert [agent.identity for agent in await agents(stage)] == [identity]


async def test_a_killed_agent_outlasts_its_dispatch_until_it_is_taken_out(stage: Stage) -> None:
    name = f"killed-{stage.room}"
    await stage.start_worker(name)
    dispatch_id = await create(stage, name)
    identity = await identity_of_agent(stage)
    await jobs_shown(stage, dispatch_id)
    await stage.kill_worker()

    assert await stage.livekit.delete_dispatch(stage.room, dispatch_id) is True
    assert await stage.livekit.probe(stage.room, identity) is Probe.SILENT
    assert [agent.identity for agent in await agents(stage)] == [identity]
    assert await stage.livekit.remove_participant(stage.room, identity) is True
    assert await agents(stage) == []


async def warned(stage: Stage, identity: str, expected: Hearing) -> None:
    """In its first moments an agent may not be reachable, or not have its method yet."""

    async def is_so() -> bool:
        return await stage.livekit.warn(stage.room, identity, WARNING) is expected

    await stage.until(is_so, f"the warning is {expected}")


@pytest.mark.parametrize(
    ("agent_name", "hearing"), [(HELPER_AGENT, Hearing.HEARD), (PLAIN_AGENT, Hearing.UNKNOWN)]
)
async def test_an_agent_with_the_helper_hears_a_warning_and_a_plain_one_cannot(
    stage: Stage, agent_name: str, hearing: Hearing
) -> None:
    await create(stage, agent_name)
    identity = await identity_of_agent(stage)

    await warned(stage, identity, hearing)


async def test_a_frozen_agent_hears_no_warning(stage: Stage) -> None:
    name = f"frozen-{stage.room}"
    await stage.start_worker(name)
    await create(stage, name)
    identity = await identity_of_agent(stage)
    await warned(stage, identity, Hearing.HEARD)
    await stage.freeze_worker()

    assert await stage.livekit.warn(stage.room, identity, WARNING) is Hearing.SILENT


# Warm agents


IDENTITY = "agent-AJ_warm"


def claim_of(stage: Stage, claim: str, room: str) -> str:
    key = stage.keypair
    tokens = AgentTokens(key, SteadyClock(), SteadyClock().now)
    agent = WarmAgent(
        id=claim, agent_name=WARM_AGENT, dispatch_id="AD_warm", agent_identity=IDENTITY, created_at=0
    )
    token = tokens.issue(room, agent)
    return json.dumps({"claim": claim, "room": room, "token": token, "metadata": "", "attributes": {}})


async def test_a_waiting_agent_goes_where_its_claim_says(stage: Stage) -> None:
    room = f"{stage.room}-of-a-person"
    await stage.livekit.ensure_room(stage.room, 60)
    await stage.livekit.ensure_room(room, 60)
    await stage.join_waiting(IDENTITY)
    await probed(stage, IDENTITY, Probe.WAITING)

    assert await stage.livekit.claim(stage.room, IDENTITY, claim_of(stage, "1", room)) is ClaimAnswer.CLAIMED

    (came,) = await stage.livekit.list_participants(room)
    assert (came.kind, came.identity, came.agent_name) == (ParticipantKind.AGENT, IDENTITY, WARM_AGENT)
    assert came.holding_room == "agent-warm.1"
    assert await stage.livekit.announce(room, IDENTITY) is True
    assert await stage.livekit.announce(room, "agent-nobody") is False
    assert await stage.livekit.announce(f"{room}-that-is-none", IDENTITY) is False
    (stays,) = await stage.livekit.list_participants(stage.room)
    assert stays.identity == IDENTITY
    assert await stage.livekit.claim(stage.room, IDENTITY, claim_of(stage, "1", room)) is ClaimAnswer.CLAIMED
    assert await stage.livekit.claim(stage.room, IDENTITY, claim_of(stage, "2", room)) is ClaimAnswer.REFUSED
    assert await stage.livekit.delete_room(room) is True


async def test_an_agent_that_does_not_wait_does_not_know_the_claim(stage: Stage) -> None:
    await create(stage, PLAIN_AGENT)
    identity = await identity_of_agent(stage)
    await probed(stage, identity, Probe.ALIVE)

    assert await stage.livekit.claim(stage.room, identity, "{}") is ClaimAnswer.UNKNOWN


async def test_a_frozen_agent_hears_no_claim(stage: Stage) -> None:
    name = f"frozen-{stage.room}"
    await stage.start_worker(name)
    await create(stage, name)
    identity = await identity_of_agent(stage)
    await probed(stage, identity, Probe.OPEN)
    await stage.freeze_worker()

    assert await stage.livekit.claim(stage.room, identity, "{}") is ClaimAnswer.SILENT


async def test_a_deleted_room_is_gone_with_all_who_are_in(stage: Stage) -> None:
    await create(stage)
    await identity_of_agent(stage)

    assert await stage.livekit.delete_room(stage.room) is True

    async def is_gone() -> bool:
        return await stage.livekit.find_room(stage.room) is None

    await stage.until(is_gone, "the room is gone")
    assert await stage.livekit.list_participants(stage.room) == ()
    assert await stage.livekit.delete_room(stage.room) is False


async def test_its_time_is_never_ahead_of_what_it_makes(stage: Stage) -> None:
    await stage.livekit.ensure_room(stage.room, 60)
    told = stage.livekit.now()
    made = await stage.livekit.create_dispatch(stage.room, "nobodys-agent", "row", UNTOLD)

    assert told <= made.created_at
