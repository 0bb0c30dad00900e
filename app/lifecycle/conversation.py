"""The conversation of a room's agent: when it is over, so that nothing of it may be kept."""

from app.lifecycle.model import LIVE_STATES, Dispatch, EndReason, Event, State

#: After these ends it goes on with the next agent: a caller asks for one, a human hands back, or there is
#: another one already.
_GOES_ON = (EndReason.MAX_SESSION, EndReason.ON_HOLD, EndReason.DUPLICATE)


def ends_conversation(before: Dispatch, after: Dispatch, event: Event) -> bool:
    """Whether this change ends the conversation, unless another live dispatch has taken over.

    True once more when the agent is gone: until then it may have stored something again.
    """
    if event is Event.NOT_DISPATCHED or after.end_reason in _GOES_ON:
        return False
    if after.state is State.ENDED:
        return True
    # People may still come and keep an agent whose TTL has passed.
    is_new = before.state is not State.ENDING or before.end_reason is not after.end_reason
    return after.state is State.ENDING and is_new and after.end_reason is not EndReason.EXPIRED


def may_converse(state: State, end_reason: EndReason | None) -> bool:
    """Whether the agent of such a dispatch may begin a conversation, or go on with one."""
    return state in LIVE_STATES or (state is State.ENDING and end_reason is EndReason.EXPIRED)
