"""The state machine of one dispatch: its states, its events, and the table of transitions.

Pure: no I/O, no clock, no imports from the rest of the service. Times are integer microseconds since 1970
(`_at`); durations are microseconds (`_us`).
"""

from app.lifecycle.deadlines import due_event
from app.lifecycle.decision import decide, met, open_dispatch
from app.lifecycle.deployments import with_deployments_of
from app.lifecycle.model import (
    LIVE_STATES,
    UNTOLD,
    Briefing,
    Decision,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Signal,
    State,
    Visitors,
)
from app.lifecycle.policy import Policy
from app.lifecycle.successor import is_crash_loop
from app.lifecycle.table import TABLE, Goal, Rule, Successor
from app.lifecycle.terms import SECOND_US, Restart, Share, Terms

__all__ = [
    "LIVE_STATES",
    "SECOND_US",
    "TABLE",
    "UNTOLD",
    "Briefing",
    "Decision",
    "Dispatch",
    "Effect",
    "EndReason",
    "Event",
    "Goal",
    "Policy",
    "Restart",
    "Rule",
    "Share",
    "Signal",
    "State",
    "Successor",
    "Terms",
    "Visitors",
    "decide",
    "due_event",
    "is_crash_loop",
    "met",
    "open_dispatch",
    "with_deployments_of",
]
