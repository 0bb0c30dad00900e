"""Recognition of a webhook's request in the usual form: the one that LiveKit and common proxies send.

aiohttp reads and answers every request of another form. So nothing is rejected here, and a form about which
two readers could disagree is not the usual one.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from app.web.keys import WEBHOOK_PATH
from app.web.request_id import HEADER, is_valid_id

_START = f"POST {WEBHOOK_PATH} HTTP/1.1\r\n".encode()
#: From here on, each header has a line break before it.
_HEADERS_AT = len(_START) - 2
#: Of a signature; LiveKit's has 300 bytes.
_SIGNATURE_BYTES = 4 * 1024
#: Of the other headers together. They are remembered, and a stranger may send them.
_HEADERS_BYTES = 1024
#: Below aiohttp's limit.
_MOST_HEADERS = 50

#: Headers that are read here, or that change neither how a webhook is read nor how it is answered.
_KNOWN = frozenset(
    {
        "accept",
        "accept-encoding",
        "baggage",
        "cdn-loop",
        "connection",
        "content-length",
        "content-type",
        "forwarded",
        "host",
        "traceparent",
        "tracestate",
        "user-agent",
        "via",
    }
)
#: What proxies add.
_KNOWN_BEGINNINGS = ("x-", "cf-")
_NAME = re.compile(r"[a-z0-9-]+", re.ASCII)
#: The value of Connection that asks for nothing.
_KEPT = "keep-alive"
_LENGTH = re.compile(r"0|[1-9][0-9]{0,7}", re.ASCII)


class UsualRequest(NamedTuple):
    authorization: str
    #: Where the body begins, and how long it is.
    body_at: int
    length: int
    #: The caller's own.
    request_id: str | None

    def missing_in(self, received: bytes) -> int:
        """The bytes that are still to come; negative if there are more than one request's."""
        return self.body_at + self.length - len(received)


class _Head(NamedTuple):
    length: int
    request_id: str | None


def usual_request(received: bytes) -> UsualRequest | None:
    """Read the head of a webhook; None if it is not complete or not of the usual form.

    `received` begins with the head.
    """
    if not received.startswith(_START):
        return None
    end = received.find(b"\r\n\r\n", _HEADERS_AT, _HEADERS_AT + _SIGNATURE_BYTES + _HEADERS_BYTES)
    line_at = received.find(b"\r\nAuthorization: ", _HEADERS_AT, end)
    if line_at < 0:
        line_at = received.find(b"\r\nauthorization: ", _HEADERS_AT, end)
    if line_at < 0 or end < 0:
        return None
    value_at = line_at + len(b"\r\nAuthorization: ")
    value_end = received.find(b"\r\n", value_at, end + 2)
    value = received[value_at:value_end]
    others = received[_HEADERS_AT:line_at] + received[value_end:end]
    if len(value) > _SIGNATURE_BYTES or len(others) > _HEADERS_BYTES or not _is_text(value):
        return None
    head = _read_headers(others)
    if head is None:
        return None
    return UsualRequest(value.decode("ascii"), end + 4, head.length, head.request_id)


# LiveKit sends the same again and again, but for the length, which has a few hundred values. What proxies add
# may differ each time, and is read each time.
@lru_cache(maxsize=1_024)
def _read_headers(lines: bytes) -> _Head | None:
    """Read headers without Authorization, each with a line break before it."""
    found: dict[str, str] = {}
    if lines.count(b"\r\n") > _MOST_HEADERS:
        return None
    for line in lines.split(b"\r\n")[1:]:
        if not _is_text(line):
            return None
        name, colon, value = line.decode("ascii").partition(":")
        name = name.lower()
        is_known = name in _KNOWN or (name.startswith(_KNOWN_BEGINNINGS) and _NAME.fullmatch(name))
        if not colon or not is_known or name in found:
            return None
        found[name] = value.strip(" ")
    length, request_id = found.get("content-length", ""), found.get(HEADER.lower())
    if found.get("connection", _KEPT).lower() != _KEPT:
        return None
    if "host" not in found or not _LENGTH.fullmatch(length):
        return None
    if request_id is not None and not is_valid_id(request_id):
        return None
    return _Head(int(length), request_id)


def _is_text(line: bytes) -> bool:
    """Whether these are ASCII characters that can be printed, and spaces."""
    return line.isascii() and line.decode("ascii").isprintable()
