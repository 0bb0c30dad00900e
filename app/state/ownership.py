"""Ownership: which dispatch an agent in a room belongs to.

LiveKit lists the agent of a dispatch only after 5 s. Until then the agent's name and its time decide.
"""

from collections.abc import Iterable, Sequence

from app.lifecycle import Dispatch, State
from app.state.presence import Participant

#: LiveKit gives a participant's time in milliseconds and a dispatch's in nanoseconds.
CLOCK_GRAIN_US = 1_000

#: The identity of an agent, unless its worker chooses another.
_JOB_IDENTITY = "agent-AJ_"


def names_a_job(identity: str | None) -> bool:
    """Whether the identity is of one job only: a worker may give all its agents the same one."""
    return identity is not None and identity.startswith(_JOB_IDENTITY)


def is_not_older(agent: Participant, dispatched_at: int | None) -> bool:
    """Whether the agent may belong to a dispatch of that time: an older agent belongs to another."""
    if dispatched_at is None or agent.joined_at is None:
        return True
    return agent.joined_at + CLOCK_GRAIN_US >= dispatched_at


def owner(agent: Participant, dispatches: Sequence[Dispatch]) -> Dispatch | None:
    """The dispatch of this agent; an agent that reconnects under its identity keeps its dispatch."""
    return next((one for one in dispatches if one.agent_identity == agent.identity), None)


def is_former(agent: Participant, dispatch: Dispatch) -> bool:
    """Whether this is the agent from before the dispatch: it can never be the dispatch's own."""
    return agent.identity == dispatch.former_agent and names_a_job(agent.identity)


def awaits(dispatch: Dispatch, agent: Participant) -> bool:
    """Whether the dispatch may be waiting for this agent."""
    if dispatch.state not in (State.CREATING, State.STARTING) or dispatch.agent_identity:
        return False
    if is_former(agent, dispatch):
        return False
    return dispatch.agent_name == agent.agent_name and is_not_older(agent, dispatch.dispatched_at)


def future_owner(agent: Participant, dispatches: Sequence[Dispatch]) -> Dispatch | None:
    """The dispatch that waits for the agent, unless it is a late agent of that one's predecessor."""
    waiting = (
        one for one in dispatches if awaits(one, agent) and not _is_predecessors(one, agent, dispatches)
    )
    return next(waiting, None)


def _is_predecessors(dispatch: Dispatch, agent: Participant, dispatches: Iterable[Dispatch]) -> bool:
    """Whether the agent belongs to the ending dispatch that this one succeeds.

    Once LiveKit has confirmed the successor, its time distinguishes them.
    """
    if dispatch.dispatched_at is not None or dispatch.succeeds is None:
        return False
    before = next((one for one in dispatches if one.id == dispatch.succeeds), None)
    if before is None or before.state is not State.ENDING or before.agent_identity:
        return False
    return before.dispatched_at is not None and is_not_older(agent, before.dispatched_at)


def agents_to_remove(
    dispatch: Dispatch, rows: Iterable[Dispatch], agents: Iterable[Participant]
) -> list[str]:
    """The identities of the agents to remove with the dispatch: its own, else those without a dispatch.

    `rows` are the open dispatches of the room. An agent that joined after a successor was dispatched may
    belong to the successor.
    """
    rows = list(rows)
    others = {row.agent_identity for row in rows if row.id != dispatch.id}
    taken_over_at = min(
        (row.dispatched_at for row in rows if row.succeeds == dispatch.id and row.dispatched_at),
        default=None,
    )

    def goes(agent: Participant) -> bool:
        is_successors = taken_over_at is not None and is_not_older(agent, taken_over_at)
        if dispatch.agent_identity is not None:
            is_own = agent.identity == dispatch.agent_identity
            return is_own and not (is_successors and not names_a_job(dispatch.agent_identity))
        is_named = agent.agent_name == dispatch.agent_name
        return is_named and is_not_older(agent, dispatch.dispatched_at) and not is_successors

    return [
        agent.identity for agent in agents if agent.identity and agent.identity not in others and goes(agent)
    ]


def avatars_of(identities: Iterable[str | None], participants: Iterable[Participant]) -> list[str]:
    """The identities of the avatars of these agents."""
    owners = set(identities) - {None}
    return [one.identity for one in participants if one.identity and one.on_behalf_of in owners]
