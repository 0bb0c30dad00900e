"""What an endpoint is: its place, who may call it, what it takes, and what it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from aiohttp import web

from app.errors import ServiceError

Input = TypeVar("Input")
Answer = TypeVar("Answer")


class Access(Enum):
    """Who may call an endpoint, and as whom it is counted."""

    PROBE = "anybody, as often as they like"
    ANYBODY = "anybody, counted by address"
    LIVEKIT = "LiveKit, which signs the body and is never told to come back later"
    MEMBER = "a participant, about its own room; the holder of an API key, about any"
    OPERATOR = "the holder of an API key"

    @property
    def is_identified(self) -> bool:
        return self in (Access.MEMBER, Access.OPERATOR)


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[Input, Answer]):
    """One line of the route table; the handler gets the input checked, and its answer is sent as JSON."""

    method: str
    path: str
    access: Access
    #: What it does, for the documentation.
    summary: str
    handler: Callable[[web.Request, Input], Awaitable[Answer | web.Response]]
    #: The handler's input, where it stands in the body; else it stands in the query.
    body: type[Input] | None = None
    #: What is read where there is no body at all.
    body_if_none: bytes = b""
    #: None: parameters are not looked at.
    query: type[Any] | None = None
    #: None: text, and not JSON.
    answer: type[Answer] | None
    #: The first is that of a plain success.
    statuses: tuple[int, ...] = (200,)
    #: Beyond those that follow from access and input.
    errors: tuple[type[ServiceError], ...] = ()


AnyEndpoint = Endpoint[Any, Any]
