"""Request ids, for answers, errors and logs: the caller's own if it is valid, else a new one."""

import itertools
import re
import secrets

from aiohttp import web

from app.logs.context import request_id as logged_request_id

HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)

#: The ids of common gateways: UUIDs, hexadecimal numbers, `Root=1-5759e988-...`. No line breaks for the log.
_VALID = re.compile(r"[A-Za-z0-9._:~+/=@-]{1,128}", re.ASCII)

_process = secrets.token_hex(8)
_numbers = itertools.count(1)


def make_request_id() -> str:
    """Unique among all processes, but guessable: a counter is faster than randomness for each id."""
    return f"{_process}{next(_numbers):016x}"


def is_valid_id(given: str) -> bool:
    """Whether a caller's own id is taken."""
    return _VALID.fullmatch(given) is not None


def assign_request_id(request: web.BaseRequest) -> str:
    """Give the request its id, and put it into every log line from here on."""
    given = request.headers.getall(HEADER, [])
    request_id = given[0] if len(given) == 1 and is_valid_id(given[0]) else make_request_id()
    logged_request_id.set(request_id)
    return request_id
