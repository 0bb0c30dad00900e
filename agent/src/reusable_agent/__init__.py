"""Keeps an AgentSession answering when its user leaves and comes back: `start` replaces `session.start`."""

from reusable_agent.assignment import Assignment, OnAssigned
from reusable_agent.farewell import LEAVING_ATTRIBUTE, Leaving
from reusable_agent.handover import HAND_OVER_METHOD, RELIEVES_ATTRIBUTE
from reusable_agent.memory import (
    Conversation,
    Memory,
    MemoryClosedError,
    OnResume,
    Resumed,
    conversation_of,
    service_memory,
)
from reusable_agent.options import UnsuitableOptionsError
from reusable_agent.presence import DISPATCH_ATTRIBUTE, HEALTH_METHOD, MEMORY_ATTRIBUTE
from reusable_agent.reports import attach
from reusable_agent.starting import start
from reusable_agent.tracing import TRACEPARENT_ATTRIBUTE, TRACESTATE_ATTRIBUTE, trace_headers
from reusable_agent.waiting import CLAIM_METHOD, HOLDING_ROOM_PREFIX, NotAssignedError
from reusable_agent.warnings import WARNING_METHOD, OnWarning, SessionWarning

__all__ = [
    "CLAIM_METHOD",
    "DISPATCH_ATTRIBUTE",
    "HAND_OVER_METHOD",
    "HEALTH_METHOD",
    "HOLDING_ROOM_PREFIX",
    "LEAVING_ATTRIBUTE",
    "MEMORY_ATTRIBUTE",
    "RELIEVES_ATTRIBUTE",
    "TRACEPARENT_ATTRIBUTE",
    "TRACESTATE_ATTRIBUTE",
    "WARNING_METHOD",
    "Assignment",
    "Conversation",
    "Leaving",
    "Memory",
    "MemoryClosedError",
    "NotAssignedError",
    "OnAssigned",
    "OnResume",
    "OnWarning",
    "Resumed",
    "SessionWarning",
    "UnsuitableOptionsError",
    "attach",
    "conversation_of",
    "service_memory",
    "start",
    "trace_headers",
]
