"""The definition of an endpoint: method, path, access, input and answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from aiohttp import web

from app.errors import ServiceError

BODY_LIMIT = 16 * 1024

Input = TypeVar("Input")
Answer = TypeVar("Answer")


class Access(Enum):
    """Who may call an endpoint, and how the calls are limited."""

    PROBE = "everyone; not rate limited"
    SCRAPER = "everyone; rate limited by address, on its own"
    ANYBODY = "everyone; rate limited by address"
    LIVEKIT = "LiveKit, which signs the body; not rate limited"
    WORKER = "a worker, which signs the body with LiveKit's key; not rate limited"
    MEMBER = "a participant for its own room; an API key for any room"
    OPERATOR = "an API key"

    @property
    def is_identified(self) -> bool:
        return self in (Access.MEMBER, Access.OPERATOR)

    @property
    def is_signed(self) -> bool:
        """Whether the credentials are a signature of the body."""
        return self in (Access.LIVEKIT, Access.WORKER)

    @property
    def is_call(self) -> bool:
        """Whether the endpoint may wait for LiveKit, so that only so many are under way at once."""
        return self.is_identified or self is Access.ANYBODY


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[Input, Answer]):
    """One line of the route table. The handler gets checked input; its answer is sent as JSON."""

    method: str
    path: str
    access: Access
    #: For the OpenAPI document.
    summary: str
    handler: Callable[[web.Request, Input], Awaitable[Answer | web.Response]]
    #: The type of the handler's input, if that is the body; else it is the query.
    body: type[Input] | None = None
    body_limit: int = BODY_LIMIT
    #: What an empty body is read as.
    body_if_none: bytes = b""
    #: None: query parameters are ignored.
    query: type[Any] | None = None
    #: None: plain text instead of JSON.
    answer: type[Answer] | None
    #: Media types that the answer may have instead of JSON, as text.
    also_as: tuple[str, ...] = ()
    #: The first one is for success.
    statuses: tuple[int, ...] = (200,)
    #: In addition to those that follow from access and input.
    errors: tuple[type[ServiceError], ...] = ()


AnyEndpoint = Endpoint[Any, Any]
