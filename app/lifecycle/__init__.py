"""The state machine of one dispatch: its states, its events, and the table of transitions.

Pure: no I/O, no clock, no imports from the rest of the service. Times are integer microseconds since 1970
(`_at`); durations are microseconds (`_us`).
"""

from app.lifecycle.decision import decide, due_event, open_dispatch
from app.lifecycle.model import (
    LIVE_STATES,
    SECOND_US,
    UNTOLD,
    Briefing,
    Decision,
    Dispatch,
    Effect,
    EndReason,
    Event,
    Policy,
    Restart,
    Signal,
    State,
)
from app.lifecycle.table import TABLE, Goal, Rule, Successor

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
    "Signal",
    "State",
    "Successor",
    "decide",
    "due_event",
    "open_dispatch",
]
