"""LiveKit with a span for each call that is part of a trace."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import iscoroutinefunction, signature
from types import SimpleNamespace
from typing import Any, cast

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span

from app.errors import ServiceError
from app.lifecycle import Briefing
from app.livekit.interface import LiveKit
from app.state.trace_context import trace_of
from app.tracing.attributes import AGENT, ERROR, RESULT, Attributes, SpanAttributes
from app.tracing.propagation import context_of

#: Calls whose answer is a word.
_ANSWERED_IN_WORDS = frozenset({"probe", "warn", "claim"})


def traced_livekit(livekit: LiveKit, tracer: Tracer, attributes: Attributes) -> LiveKit:
    """The same LiveKit. What the service asks by itself, such as in each of its rounds, has no span."""

    def trace(method: str, names: tuple[str, ...]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> object:
            given = dict(zip(names, args, strict=False)) | kwargs
            act = getattr(livekit, method)
            is_called = get_current_span().get_span_context().is_valid
            context = None if is_called else _context(given)
            if context is None and not is_called:
                return await act(*args, **kwargs)
            with tracer.start_as_current_span(
                f"livekit.{method}",
                context,
                SpanKind.CLIENT,
                _told(given, attributes),
                # An error's text may have names in it.
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    answer = await act(*args, **kwargs)
                except BaseException as error:
                    code = error.code if isinstance(error, ServiceError) else type(error).__qualname__
                    span.set_attribute(ERROR, code)
                    span.set_status(Status(StatusCode.ERROR, code))
                    raise
                if method in _ANSWERED_IN_WORDS:
                    span.set_attribute(RESULT, str(answer))
                return answer

        return call

    methods = {
        name: trace(name, tuple(signature(method).parameters)[1:])
        for name, method in vars(LiveKit).items()
        if iscoroutinefunction(method)
    }
    return cast("LiveKit", SimpleNamespace(now=livekit.now, **methods))


def _context(given: Mapping[str, Any]) -> Context | None:
    """The trace of a dispatch that is created out of any call, as a deadline does it; None: of no trace."""
    briefing = given.get("briefing")
    carried = trace_of(briefing) if isinstance(briefing, Briefing) else {}
    return context_of(carried) if carried else None


def _told(given: Mapping[str, Any], attributes: Attributes) -> SpanAttributes:
    told: SpanAttributes = {}
    if "room_name" in given:
        told |= attributes.room(given["room_name"])
    if "agent_name" in given:
        told[AGENT] = given["agent_name"]
    return told
