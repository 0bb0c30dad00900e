"""W3C trace context in the attributes of a dispatch: the trace that a call for its agent belongs to."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import msgspec

from app.lifecycle import Briefing

#: `traceparent`, and `tracestate` if there is any; empty: no trace.
Trace: TypeAlias = Mapping[str, str]

#: The attributes of a dispatch that carry both. Its agent gets them; a successor has them too.
_ATTRIBUTES = {name: f"agent-lifecycle.{name}" for name in ("traceparent", "tracestate")}
TRACE_ATTRIBUTES = tuple(_ATTRIBUTES.values())

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(briefing: Briefing) -> Trace:
    """The trace of the call for which the agent was dispatched; empty if it had none."""
    if _ATTRIBUTES["traceparent"] not in briefing.attributes:
        # Nearly all dispatches, without a service that traces.
        return {}
    told = _attributes(briefing)
    return {name: told[attribute] for name, attribute in _ATTRIBUTES.items() if attribute in told}


def trace_id_of(briefing: Briefing) -> str | None:
    found = _TRACEPARENT.fullmatch(trace_of(briefing).get("traceparent", ""))
    return found[1] if found else None


def within(briefing: Briefing, trace: Trace) -> Briefing:
    """The briefing with this trace in place of its own; without a trace, as it is."""
    if not trace:
        return briefing
    told = {name: text for name, text in _attributes(briefing).items() if name not in TRACE_ATTRIBUTES}
    told |= {_ATTRIBUTES[name]: text for name, text in trace.items()}
    return replace(briefing, attributes=msgspec.json.encode(told).decode())


def _attributes(briefing: Briefing) -> dict[str, str]:
    return msgspec.json.decode(briefing.attributes or "{}", type=dict[str, str])
