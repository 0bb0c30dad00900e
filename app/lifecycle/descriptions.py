"""The time line of a dispatch in plain words: what happened, why, and what that means."""

from collections.abc import Mapping

from app.lifecycle import EndReason, Event, State

#: How a time line begins, where no event of the lifecycle did it.
INTENT = "intent"

EVENTS: Mapping[str, str] = {
    INTENT: "An agent was wanted in this room",
    Event.DISPATCHED: "LiveKit has the dispatch",
    Event.NOT_DISPATCHED: "LiveKit did not take the dispatch",
    Event.PEOPLE_IN: "People are in the room",
    Event.PEOPLE_OUT: "The last person left",
    Event.AGENT_IN: "The agent joined",
    Event.AGENT_LEFT: "The agent left: it had finished",
    Event.AGENT_LOST: "The agent was lost: it died, lost its network, or its worker was shut down",
    Event.ROOM_FINISHED: "LiveKit closed the room",
    Event.REUSED: "A caller asked for an agent; this one was proven good",
    Event.END_REQUESTED: "Somebody asked for its end",
    Event.REFUTED: "The agent is in, but does not answer: frozen, or its session is closed",
    Event.MISSING: "LiveKit no longer has the dispatch",
    Event.DUPLICATE: "There is a better agent of this name in the room",
    Event.UNTAKEN: "No worker took the job",
    Event.JOIN_OVERDUE: "No agent joined in time",
    Event.TTL_EXPIRED: "The TTL passed with nobody in",
    Event.RETRY_DUE: "It was time to try again",
    Event.OCCUPIED: "LiveKit, asked before the removal, found people in",
    Event.REMOVED: "Dispatch and agent are gone from LiveKit",
    Event.REMOVE_FAILED: "The removal failed: LiveKit could not be asked, or refused",
}

STATES: Mapping[str, str] = {
    State.CREATING: "LiveKit is being asked for a dispatch",
    State.STARTING: "dispatched; the agent is awaited",
    State.ACTIVE: "the agent is in, and so are people",
    State.IDLE: "the agent waits alone; its TTL runs",
    State.UNAVAILABLE: "no worker brings an agent; tried again while people wait",
    State.ENDING: "the agent is being taken out",
    State.ENDED: "over",
}

END_REASONS: Mapping[str, str] = {
    EndReason.EXPIRED: "its TTL passed",
    EndReason.REQUESTED: "its end was asked for",
    EndReason.ROOM_FINISHED: "the room was closed",
    EndReason.AGENT_LEFT: "the agent had finished",
    EndReason.AGENT_FAILED: "the agent died",
    EndReason.NEVER_JOINED: "no agent came",
    EndReason.REPLACED: "it did not answer and was replaced",
    EndReason.DUPLICATE: "there was a better one",
    EndReason.GONE: "LiveKit no longer had it",
}


def describe(event: str, from_state: str | None) -> str:
    """One line's sentence; an event that a later version has stored is told by its name."""
    known = EVENTS.get(event, event)
    if from_state is None and event != INTENT:
        return f"It took over from an earlier dispatch. {known}"
    return known
