"""Answers over HTTP: read within a size limit, and told from what LiveKit does not send."""

from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp
import msgspec
from google.protobuf.message import DecodeError, Message
from livekit import api

from app.lifecycle import SECOND_US

M = TypeVar("M", bound=Message)

#: Tens of thousands of rooms with their metadata; what is longer would fill the memory.
ANSWER_LIMIT = 64 * 1024 * 1024

_PROTOBUF = "application/protobuf"
_OK, _UNAUTHORIZED = 200, 401
#: With these LiveKit rejects a token before Twirp sees the request (livekit-server 1.13.5, service/auth.go).
_REJECTED_TOKEN = (b"invalid API key", b"invalid token", b"invalid authorization")
#: All codes of Twirp (twitchtv/twirp 8.1.3, errors.go).
_CODES = frozenset(
    {
        api.TwirpErrorCode.CANCELED,
        api.TwirpErrorCode.UNKNOWN,
        api.TwirpErrorCode.INVALID_ARGUMENT,
        api.TwirpErrorCode.MALFORMED,
        api.TwirpErrorCode.DEADLINE_EXCEEDED,
        api.TwirpErrorCode.NOT_FOUND,
        api.TwirpErrorCode.BAD_ROUTE,
        api.TwirpErrorCode.ALREADY_EXISTS,
        api.TwirpErrorCode.PERMISSION_DENIED,
        api.TwirpErrorCode.UNAUTHENTICATED,
        api.TwirpErrorCode.RESOURCE_EXHAUSTED,
        api.TwirpErrorCode.FAILED_PRECONDITION,
        api.TwirpErrorCode.ABORTED,
        api.TwirpErrorCode.OUT_OF_RANGE,
        api.TwirpErrorCode.UNIMPLEMENTED,
        api.TwirpErrorCode.INTERNAL,
        api.TwirpErrorCode.UNAVAILABLE,
        api.TwirpErrorCode.DATA_LOSS,
    }
)


class AnswerTooLarge(aiohttp.ClientError):
    """The body is longer than the limit; the rest was not read."""


class NotLiveKit(Exception):
    """An answer that LiveKit does not send, as from a proxy before it; the message says what is wrong."""


class TwirpBody(msgspec.Struct):
    """The error format of LiveKit, which hardly any other server uses."""

    code: str
    msg: str


async def read_within(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes:
    """Read a body that is, decompressed, at most `limit` bytes long.

    Raises:
        AnswerTooLarge: it is longer; the connection is closed.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            response.close()
            raise AnswerTooLarge(f"more than {limit} bytes")
    return bytes(body)


def message_of(response: aiohttp.ClientResponse, body: bytes, kind: type[M]) -> M | api.TwirpError:
    """What LiveKit says: a message, or that it rejects the call.

    The content type decides: to protobuf an empty page is a message too, one without rooms.

    Raises:
        NotLiveKit: LiveKit does not answer like this.
    """
    status = response.status
    if status != _OK:
        return _error_of(status, body)
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != _PROTOBUF:
        raise NotLiveKit("HTTP 200 without protobuf")
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise NotLiveKit("HTTP 200 with broken protobuf") from error


def _error_of(status: int, body: bytes) -> api.TwirpError:
    if status == _UNAUTHORIZED and body.startswith(_REJECTED_TOKEN):
        return api.TwirpError(api.TwirpErrorCode.UNAUTHENTICATED, "", status=status)
    told = twirp_body(body)
    if told is None:
        raise NotLiveKit(f"HTTP {status}")
    return api.TwirpError(told.code, told.msg, status=status)


def twirp_body(body: bytes) -> TwirpBody | None:
    """The error that LiveKit reports; None if this is none of LiveKit's."""
    try:
        told = msgspec.json.decode(body, type=TwirpBody)
    except (ValueError, RecursionError):
        return None
    return told if told.code in _CODES else None


def time_of(date: str | None) -> int | None:
    """The time in a Date header; None if there is none, or it is no date."""
    try:
        return round(parsedate_to_datetime(date).timestamp()) * SECOND_US if date else None
    except (ValueError, OverflowError):
        return None
