"""Usage: what the time of a dispatch was spent on, for the costs.

`Dispatch.accounted_at` says until when it is in the ledger. It moves only when the kind of time changes, and
at the end: other changes cost no write. It never goes back, whatever the clocks of the processes say.
"""

from dataclasses import replace
from enum import StrEnum

from app.lifecycle.model import Dispatch, State, Visitors


class TimeKind(StrEnum):
    STARTING = "starting"  #: dispatched, or about to be; its agent is not in yet
    TALKED = "talked"  #: its agent and people are in
    IDLE = "idle"  #: its agent is alone, after somebody had come
    UNVISITED = "unvisited"  #: its agent is alone, and nobody has come yet
    WARM = "warm"  #: an agent waits in a holding room, for no dispatch yet


def kind_of(dispatch: Dispatch) -> TimeKind | None:
    """What the time of a dispatch is spent on as it stands; None: it costs nothing."""
    people, has_agent = dispatch.participant_count, dispatch.agent_joined_at is not None
    return kind_in(dispatch.state, dispatch.visitors, people, has_agent=has_agent)


def kind_in(state: State, visitors: Visitors, people: int, *, has_agent: bool) -> TimeKind | None:
    """The same of its parts. In `ending` its agent may still be there, so the time goes on."""
    if state in (State.UNAVAILABLE, State.ON_HOLD, State.ENDED):
        return None
    if not has_agent:
        return TimeKind.STARTING
    if people:
        return TimeKind.TALKED
    return TimeKind.UNVISITED if visitors is Visitors.NONE else TimeKind.IDLE


def account(before: Dispatch, after: Dispatch, now: int) -> Dispatch:
    """`after`, accounted until now if the kind of time has changed, or the dispatch has ended."""
    if before.accounted_at is None:
        # Of a version before: what its time was spent on until now is not known.
        return replace(after, accounted_at=now)
    if kind_of(before) is kind_of(after) and after.state is not State.ENDED:
        return after
    return replace(after, accounted_at=max(now, before.accounted_at))


def accrued(before: Dispatch, after: Dispatch) -> tuple[TimeKind | None, int]:
    """The time that this change adds to the ledger, in microseconds, and its kind."""
    if before.accounted_at is None or after.accounted_at is None:
        return None, 0
    return kind_of(before), after.accounted_at - before.accounted_at
