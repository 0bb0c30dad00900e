"""The request id and the trace id of the current context, which every log line gets."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Tasks that a request starts inherit it, so that later work for the request can be followed too.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
#: Set only where calls are traced.
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)


@contextmanager
def bind(id_: str) -> Iterator[None]:
    """Log `id_` as the `request_id` of every line inside the block."""
    token = request_id.set(id_)
    try:
        yield
    finally:
        request_id.reset(token)


@contextmanager
def bind_trace(id_: str) -> Iterator[None]:
    """Log `id_` as the `trace_id` of every line inside the block."""
    token = trace_id.set(id_)
    try:
        yield
    finally:
        trace_id.reset(token)
