"""Candidates: pairing of agents, dispatches and rows, and the choice of the best."""

from dataclasses import replace
from itertools import permutations

import pytest
from msgspec import structs

from app.control.candidates import AgentHealth, AssessedCandidate, Candidate, Inspection, pair, with_avatars
from app.lifecycle import SECOND_US, Dispatch, State
from app.livekit.interface import ListedDispatch
from app.state.presence import Participant, ParticipantKind
from fakes.dispatches import INTENT

AT = 1_700_000_000_000_000


def listed(number: int, *, row_id: str | None = None, agents: tuple[str, ...] = ()) -> ListedDispatch:
    """The dispatch of second `number`."""
    return ListedDispatch(
        id=f"AD_{number}",
        agent_name="agent",
        created_at=AT + number * SECOND_US,
        row_id=row_id,
        agent_identities=agents,
    )


def agent(number: int, after_s: float = 0.5) -> Participant:
    return Participant(
        sid=f"PA_{number}",
        kind=ParticipantKind.AGENT,
        identity=f"agent-{number}",
        agent_name="agent",
        joined_at=AT + number * SECOND_US + int(after_s * SECOND_US),
    )


def row(number: int, *, dispatch_id: str | None = None, identity: str | None = None) -> Dispatch:
    return replace(
        INTENT,
        id=f"row-{number}",
        dispatch_id=dispatch_id,
        state=State.STARTING,
        created_at=AT,
        last_activity_at=AT,
        agent_identity=identity,
    )


def test_nothing_belongs_to_a_row_on_hold() -> None:
    held = replace(row(1), state=State.ON_HOLD)
    late = listed(1, row_id=held.id, agents=("agent-1",))
    assert pair([late], [agent(1)], [held]) == [Candidate(listed=late, agent=agent(1))]


def test_the_agent_that_livekit_names_outranks_that_of_the_row() -> None:
    ours, others = listed(1, agents=("agent-9",)), listed(1, agents=("agent-1",))
    others = replace(others, id="AD_2")
    mistaken = row(1, dispatch_id="AD_1", identity="agent-1")
    assert pair([ours, others], [agent(1)], [mistaken]) == [
        Candidate(listed=ours, row=mistaken),
        Candidate(listed=others, agent=agent(1)),
    ]


def test_without_input_there_are_no_candidates() -> None:
    assert pair([], [], []) == []
    assert pair([], [], [row(1, dispatch_id="AD_1")]) == []


def test_livekit_names_the_agent_of_a_dispatch() -> None:
    first, second = listed(1, agents=("agent-2",)), listed(2, agents=("agent-1",))
    assert pair([first, second], [agent(1), agent(2)], []) == [
        Candidate(listed=second, agent=agent(1)),
        Candidate(listed=first, agent=agent(2)),
    ]


def test_until_livekit_names_the_agent_the_row_does() -> None:
    """An agent is known from its join; LiveKit lists jobs only after 5 s."""
    first, second = listed(1), listed(2)
    ours = row(1, dispatch_id="AD_1", identity="agent-2")
    assert pair([first, second], [agent(2)], [ours]) == [
        Candidate(listed=second),
        Candidate(listed=first, agent=agent(2), row=ours),
    ]


def test_an_unnamed_agent_gets_the_newest_dispatch_that_is_older() -> None:
    first, third = listed(1), listed(3)
    assert pair([first, third], [agent(2)], []) == [
        Candidate(listed=third),
        Candidate(listed=first, agent=agent(2)),
    ]
    assert pair([first, third], [agent(3)], []) == [
        Candidate(listed=third, agent=agent(3)),
        Candidate(listed=first),
    ]


def test_an_agent_may_be_older_than_its_dispatch_by_the_clock_grain() -> None:
    dispatch = listed(1)
    just = structs.replace(agent(1), joined_at=dispatch.created_at - 1_000)
    older = structs.replace(agent(1), joined_at=dispatch.created_at - 1_001)
    assert pair([dispatch], [just], []) == [Candidate(listed=dispatch, agent=just)]
    assert pair([dispatch], [older], []) == [Candidate(listed=dispatch), Candidate(agent=older)]


def test_a_dispatch_has_one_agent() -> None:
    dispatch = listed(1)
    assert pair([dispatch], [agent(1), agent(2)], []) == [
        Candidate(listed=dispatch, agent=agent(1)),
        Candidate(agent=agent(2)),
    ]


def test_a_dispatch_whose_agent_left_is_not_paired_with_another() -> None:
    named = listed(1, agents=("agent-9",))
    assert pair([named], [agent(1)], []) == [Candidate(listed=named), Candidate(agent=agent(1))]
    ours = row(1, dispatch_id="AD_1", identity="agent-9")
    plain, later = listed(1), agent(1, after_s=6)
    assert pair([plain], [later], [ours]) == [Candidate(listed=plain, row=ours), Candidate(agent=later)]


def test_an_agent_that_came_with_the_dispatch_is_its_though_the_row_had_a_stray_one_that_left() -> None:
    ours, plain, prompt = row(1, dispatch_id="AD_1", identity="agent-9"), listed(1), agent(1, after_s=5.9)
    (found,) = pair([plain], [prompt], [ours])
    assert (found.agent, found.row, found.is_mismatched) == (prompt, ours, True)
    # While the row's agent is in, another one is another one's.
    stray = agent(9, after_s=-7)
    assert len(pair([plain], [prompt, stray], [ours])) == 2


def test_a_dispatch_is_paired_by_its_row_id() -> None:
    """LiveKit's answer was lost, so the row does not have its id."""
    dispatch, ours = listed(1, row_id="row-1"), row(1)
    assert pair([dispatch], [], [ours]) == [Candidate(listed=dispatch, row=ours)]


def test_a_second_dispatch_with_the_same_row_id_gets_no_row() -> None:
    """Two processes have created one each: the row belongs to the one that it names."""
    first, second = listed(1, row_id="row-1"), listed(2, row_id="row-1")
    named, unnamed = row(1, dispatch_id="AD_1"), row(1)
    assert pair([first, second], [], [named]) == [
        Candidate(listed=second),
        Candidate(listed=first, row=named),
    ]
    assert [c.row for c in pair([first, second], [], [unnamed])] == [unnamed, None]


def test_an_agent_whose_dispatch_is_not_listed_keeps_its_row() -> None:
    ours = row(1, dispatch_id="AD_gone", identity="agent-1")
    assert pair([], [agent(1)], [ours]) == [Candidate(agent=agent(1), row=ours)]


def test_the_order_of_livekits_answers_does_not_matter() -> None:
    dispatches, agents = [listed(1), listed(2), listed(3)], [agent(1), agent(2), agent(3)]
    expected = pair(dispatches, agents, [])
    assert [(c.listed and c.listed.id, c.agent and c.agent.identity) for c in expected] == [
        ("AD_3", "agent-3"),
        ("AD_2", "agent-2"),
        ("AD_1", "agent-1"),
    ]
    for some in permutations(dispatches):
        for others in permutations(agents):
            assert pair(some, others, []) == expected


def test_every_dispatch_and_every_agent_is_in_one_candidate() -> None:
    dispatches = [listed(1, agents=("agent-3",)), listed(2), listed(5)]
    agents = [agent(0), agent(1), agent(3), agent(4)]
    found = pair(dispatches, agents, [row(2, dispatch_id="AD_2", identity="agent-1")])
    assert sorted(c.listed.id for c in found if c.listed) == ["AD_1", "AD_2", "AD_5"]
    assert sorted(c.agent.sid for c in found if c.agent) == ["PA_0", "PA_1", "PA_3", "PA_4"]


# Which one to keep


def assessed(health: AgentHealth, number: int = 1, *, ours: bool = False) -> AssessedCandidate:
    candidate = Candidate(
        listed=listed(number), row=row(number, dispatch_id=f"AD_{number}") if ours else None
    )
    return AssessedCandidate(candidate=candidate, health=health)


def inspection(*found: AssessedCandidate) -> Inspection:
    return Inspection(room=None, generation=0, people=0, assessed=found, row=None)


@pytest.mark.parametrize(
    "health", [AgentHealth.SESSION_CLOSED, AgentHealth.UNRESPONSIVE, AgentHealth.ABSENT, AgentHealth.ENDING]
)
def test_an_agent_that_cannot_answer_is_never_the_best(health: AgentHealth) -> None:
    assert inspection(assessed(health, ours=True)).best() is None
    assert inspection().best() is None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (assessed(AgentHealth.RESPONSIVE, 1), assessed(AgentHealth.STARTING, 2)),
        (assessed(AgentHealth.RESPONSIVE, 1), assessed(AgentHealth.STARTING, 2, ours=True)),
        (assessed(AgentHealth.RESPONSIVE, 1, ours=True), assessed(AgentHealth.RESPONSIVE, 2)),
        (assessed(AgentHealth.STARTING, 1, ours=True), assessed(AgentHealth.STARTING, 2)),
        (assessed(AgentHealth.RESPONSIVE, 2), assessed(AgentHealth.RESPONSIVE, 1)),
        (assessed(AgentHealth.STARTING, 2, ours=True), assessed(AgentHealth.STARTING, 1, ours=True)),
        (assessed(AgentHealth.STARTING, 1), assessed(AgentHealth.SESSION_CLOSED, 2, ours=True)),
    ],
)
def test_the_best_is_responsive_then_has_a_row_then_is_newest(
    better: AssessedCandidate, worse: AssessedCandidate
) -> None:
    assert inspection(better, worse).best() is better
    assert inspection(worse, better).best() is better


def test_the_health_of_a_row_is_that_of_its_listed_dispatch() -> None:
    ours = assessed(AgentHealth.SESSION_CLOSED, 1, ours=True)
    assert inspection(assessed(AgentHealth.RESPONSIVE, 2), ours).health_of(row(1)) is ours.health
    assert inspection(assessed(AgentHealth.RESPONSIVE, 2)).health_of(row(1)) is None


def test_a_row_whose_dispatch_is_not_listed_has_no_health() -> None:
    unlisted = AssessedCandidate(
        candidate=Candidate(agent=agent(1), row=row(1)), health=AgentHealth.RESPONSIVE
    )
    assert inspection(unlisted).health_of(row(1)) is None


def test_all_agents_of_one_dispatch_are_one_candidate() -> None:
    """A worker of type PUBLISHER takes one job for each publisher."""
    several = listed(1, agents=("agent-1", "agent-2", "agent-3"))
    (found,) = pair([several], [agent(1), agent(2)], [row(1, dispatch_id="AD_1", identity="agent-2")])
    assert found.agent == agent(2)
    assert found.companions == (agent(1),)
    assert found.identities == ["agent-2", "agent-1"]


def test_avatars_go_with_their_agent() -> None:
    face, other = (
        Participant(sid=f"PA_{of}", kind=ParticipantKind.DEPENDENT, identity=f"face-{of}", on_behalf_of=of)
        for of in ("agent-1", "agent-9")
    )
    (found,) = with_avatars([Candidate(listed=listed(1), agent=agent(1))], [agent(1), face, other])
    assert found.identities == ["agent-1", "face-agent-1"]


def test_beside_the_dispatch_of_another_service_the_oldest_is_kept() -> None:
    """The other service finds the same one, so neither removes what the other keeps."""
    ours = AssessedCandidate(
        candidate=Candidate(listed=listed(2, row_id="row-2"), agent=agent(2), row=row(2)),
        health=AgentHealth.RESPONSIVE,
    )
    theirs = AssessedCandidate(
        candidate=Candidate(listed=listed(1, row_id="a row of theirs"), agent=agent(1)),
        health=AgentHealth.UNTESTED,
    )
    assert inspection(ours, theirs).best() == theirs
    foreign = replace(theirs, candidate=Candidate(listed=listed(1), agent=agent(1)))
    assert inspection(ours, foreign).best() == ours


def test_a_dispatch_of_our_own_that_is_ending_is_not_anothers() -> None:
    """LiveKit may list it for a while after its row has ended."""
    ended = Candidate(listed=listed(1, row_id="a row that has ended"))
    assert not AssessedCandidate(candidate=ended, health=AgentHealth.ENDING).is_anothers
    assert AssessedCandidate(candidate=ended, health=AgentHealth.STARTING).is_anothers
