"""Presenters: make answers from dispatches and history."""

from app.clock import to_iso
from app.config.agents import MemberEnd
from app.control.requests import AgentGrant, is_ready
from app.lifecycle import Dispatch, State
from app.lifecycle.descriptions import describe
from app.state.views import HistoryLine
from app.web.error_responses import QueuePlace
from app.web.schemas import AgentItem, DispatchResponse, EndResponse, HistoryItem, StatusResponse

_WITHOUT_AGENT = (State.UNAVAILABLE, State.ON_HOLD, State.ENDING, State.ENDED)

_RESULTS = {
    "created": "A new agent was dispatched",
    "reused": "The existing agent is reused",
    "on_hold": "A human has taken over: no agent comes until it is resumed",
}


def dispatch_response(grant: AgentGrant, warnings: list[str]) -> DispatchResponse:
    dispatch = grant.dispatch
    return DispatchResponse(
        dispatch_id=dispatch.dispatch_id,
        reused=grant.reused,
        source=grant.source,
        state=dispatch.state,
        ttl_expires_at=to_iso(dispatch.ttl_expires_at),
        message=_RESULTS[grant.result],
        metadata_applied=grant.briefing_applied,
        warnings=warnings,
        ready=grant.is_ready,
        ready_after_ms=grant.ready_after_ms,
        queue=QueuePlace(**grant.queue._asdict()) if grant.queue else None,
    )


def end_response(ended: Dispatch | None, *, only_if_empty: bool, may_end: MemberEnd) -> EndResponse:
    if ended:
        return EndResponse(dispatch_id=ended.dispatch_id, message="The agent was ended")
    kept = "Nothing was ended: people are in the room, or it has no agent"
    if may_end is MemberEnd.IF_EMPTY:
        kept += "; a participant ends this agent in an empty room only (MEMBER_END, or members_may_end)"
    return EndResponse(dispatch_id=None, message=kept if only_if_empty else "The room has no agent")


def status_response(dispatch: Dispatch | None, now: int) -> StatusResponse:
    if dispatch is None:
        return StatusResponse(has_agent=False, state="none")
    return StatusResponse(
        has_agent=dispatch.state not in _WITHOUT_AGENT,
        state=dispatch.state,
        dispatch_id=dispatch.dispatch_id,
        created_at=to_iso(dispatch.created_at),
        last_activity_at=to_iso(dispatch.last_activity_at),
        participant_count=dispatch.participant_count,
        ttl_expires_at=to_iso(dispatch.ttl_expires_at),
        ready=is_ready(dispatch),
        session_ends_at=to_iso(dispatch.session_ends_at),
        ending_soon=dispatch.ends_soon(now),
    )


def agent_item(dispatch: Dispatch, now: int) -> AgentItem:
    return AgentItem(
        # Until LiveKit has given an id, the row's own is shown; both find the history.
        dispatch_id=dispatch.dispatch_id or dispatch.id,
        room_name=dispatch.room_name,
        agent_name=dispatch.agent_name,
        state=dispatch.state,
        created_at=to_iso(dispatch.created_at),
        last_activity_at=to_iso(dispatch.last_activity_at),
        participant_count=dispatch.participant_count,
        ttl_expires_at=to_iso(dispatch.ttl_expires_at),
        session_ends_at=to_iso(dispatch.session_ends_at),
        ending_soon=dispatch.ends_soon(now),
        agent_identity=dispatch.agent_identity,
        end_reason=dispatch.end_reason,
        deployment=dispatch.briefing.deployment,
    )


def history_item(line: HistoryLine) -> HistoryItem:
    return HistoryItem(
        at=to_iso(line.at),
        event=line.event,
        message=describe(line.event, line.from_state),
        from_state=line.from_state,
        to_state=line.to_state,
        participant_count=line.people,
    )
