"""What a line of the log says about the request that it belongs to, without being told."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Tasks that a request starts inherit it, so that what comes of the request later can be followed too.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


@contextmanager
def bind(id_: str) -> Iterator[None]:
    """Write `id_` as the `request_id` of every line that is logged inside."""
    token = request_id.set(id_)
    try:
        yield
    finally:
        request_id.reset(token)
