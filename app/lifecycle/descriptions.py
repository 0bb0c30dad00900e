"""Plain descriptions of events, states and end reasons, for the timeline of a dispatch."""

from collections.abc import Mapping

from app.lifecycle import EndReason, Event, State

#: The first line of a timeline that no lifecycle event began.
INTENT = "intent"

EVENTS: Mapping[str, str] = {
    INTENT: "An agent was requested for this room",
    Event.DISPATCHED: "LiveKit has the dispatch",
    Event.NOT_DISPATCHED: "LiveKit did not create the dispatch",
    Event.PEOPLE_IN: "People are in the room",
    Event.PEOPLE_OUT: "The last person left the room",
    Event.AGENT_IN: "The agent joined the room",
    Event.AGENT_LEFT: "The agent finished and left the room",
    Event.PUBLISHER_LEFT: "The agent left with its publisher; LiveKit starts one for the next",
    Event.AGENT_HANDED_OVER: "The agent brought somebody in and left the room",
    Event.AGENT_LOST: "The agent was lost: it died, lost its network, or its worker was shut down",
    Event.ROOM_FINISHED: "LiveKit closed the room",
    Event.REUSED: "An agent was requested; this one responded and was reused",
    Event.END_REQUESTED: "The end of the agent was requested",
    Event.SUPERSEDED: "An agent with other metadata was requested",
    Event.READY: "The agent answers",
    Event.HOLD_REQUESTED: "A hold was requested: a human takes over",
    Event.RESUMED: "The agent was requested back after a hold",
    Event.DRAINED: "Its worker is being emptied: another agent takes over",
    Event.RELIEF_AWAITED: "The agent that takes over does not answer yet",
    Event.RELIEF_FAILED: "The agent that was to take over did not come: this one goes on",
    Event.RELIEVED: "Another agent has taken over, or none is wanted any more",
    Event.POLICY_CHANGED: "The policy file has new terms for this agent",
    Event.WARNING_DUE: "The longest session ends soon: the agent is told",
    Event.WARNED: "The agent was told that its session ends soon",
    Event.SESSION_OVER: "The longest session has passed",
    Event.REFUTED: "The agent does not respond: it is frozen, or its session is closed",
    Event.MISSING: "LiveKit no longer has the dispatch",
    Event.DUPLICATE: "Another dispatch of this agent name in the room is better",
    Event.UNTAKEN: "No worker took the job",
    Event.HELD: "No agent joined in time, but a worker has the job and is waited for",
    Event.JOIN_OVERDUE: "No agent joined the room in time",
    Event.TTL_EXPIRED: "The TTL expired with no person in the room",
    Event.RETRY_DUE: "A retry was due",
    Event.OCCUPIED: "LiveKit reported people in the room before the removal",
    Event.REMOVED: "LiveKit removed the dispatch and the agent",
    Event.REMOVE_FAILED: "The removal failed: LiveKit was not reachable, or rejected it",
}

STATES: Mapping[str, str] = {
    State.CREATING: "the service is creating the dispatch in LiveKit",
    State.STARTING: "dispatched; the agent has not joined the room yet",
    State.ACTIVE: "the agent and people are in the room",
    State.IDLE: "the agent is alone in the room; its TTL runs",
    State.UNAVAILABLE: "no worker provides an agent; the service retries while people wait",
    State.ON_HOLD: "a human has taken over; no agent comes until it is resumed",
    State.ENDING: "the service is removing the agent",
    State.ENDED: "ended",
}

END_REASONS: Mapping[str, str] = {
    EndReason.EXPIRED: "its TTL expired",
    EndReason.REQUESTED: "its end was requested",
    EndReason.ROOM_FINISHED: "LiveKit closed the room",
    EndReason.AGENT_LEFT: "the agent finished",
    EndReason.AGENT_FAILED: "the agent died",
    EndReason.NEVER_JOINED: "no agent joined",
    EndReason.REPLACED: "the agent did not respond and was replaced",
    EndReason.DUPLICATE: "another dispatch of this agent name was better",
    EndReason.MAX_SESSION: "its longest session had passed",
    EndReason.ON_HOLD: "a human took over",
    EndReason.DRAINED: "its worker was emptied",
    EndReason.GONE: "LiveKit no longer had the dispatch",
}


def describe(event: str, from_state: str | None) -> str:
    """Describe one line of a timeline; an unknown event, stored by a later version, keeps its name."""
    known = EVENTS.get(event, event)
    if from_state is None and event != INTENT:
        return f"This dispatch took over from an earlier one. {known}"
    return known
