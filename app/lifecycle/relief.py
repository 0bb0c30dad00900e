"""Relief: an agent takes over from one whose worker is emptied, which answers until then."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.lifecycle.model import LIVE_STATES, Dispatch, EndReason, Event, State

#: The relief has not come, and nobody wanted it to stay away: the agent before goes on.
_FAILURES = frozenset(
    {
        Event.NOT_DISPATCHED,
        Event.UNTAKEN,
        Event.JOIN_OVERDUE,
        Event.AGENT_LOST,
        Event.AGENT_LEFT,
        Event.AGENT_HANDED_OVER,
        Event.REFUTED,
        Event.MISSING,
    }
)


def is_relief(dispatch: Dispatch) -> bool:
    """Whether it takes over from a dispatch whose agent still answers."""
    return dispatch.cause == Event.DRAINED and dispatch.ready_at is None


def awaits_relief(dispatch: Dispatch, others: Iterable[Dispatch]) -> bool:
    """Whether the agent of this ending dispatch answers until another one does."""
    if dispatch.state is not State.ENDING or dispatch.end_reason is not EndReason.DRAINED:
        return False
    return any(one.succeeds == dispatch.id and one.state in LIVE_STATES and _is_coming(one) for one in others)


def answering(dispatches: Sequence[Dispatch]) -> Dispatch | None:
    """The dispatch whose agent answers while another one takes over, as if it were to stay."""
    found = next((one for one in dispatches if awaits_relief(one, dispatches)), None)
    return found and replace(found, state=State.ACTIVE)


def outcome_of_relief(before: Dispatch, after: Dispatch, event: Event) -> Event | None:
    """What a change of the relief means for the dispatch that it relieves; None: nothing yet."""
    if not is_relief(before):
        return None
    if _is_coming(after):
        return None
    return Event.RELIEF_FAILED if after.ready_at is None and event in _FAILURES else Event.RELIEVED


def _is_coming(relief: Dispatch) -> bool:
    # In an empty room it waits for a person: nobody needs the agent before.
    is_wanted = relief.state in LIVE_STATES and relief.state is not State.UNAVAILABLE
    return is_wanted and is_relief(relief)
