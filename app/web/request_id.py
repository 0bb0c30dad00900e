"""The id of a request, in answers, errors and logs: the caller's own if it is sane, else made here."""

import itertools
import re
import secrets

from aiohttp import web

from app.logs.context import request_id as logged_request_id

HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)

#: What gateways make: UUIDs, hexadecimal numbers, `Root=1-5759e988-...`. Nothing that could end a log's line.
_SANE = re.compile(r"[A-Za-z0-9._:~+/=@-]{1,128}", re.ASCII)


_process = secrets.token_hex(8)
_numbers = itertools.count(1)


def make_request_id() -> str:
    """Unlike any other process's, and no secret: to ask the system for each one's chance takes longer."""
    return f"{_process}{next(_numbers):016x}"


def settle_request_id(request: web.BaseRequest) -> str:
    """The id of a request that begins; what is logged from here on has it."""
    given = request.headers.getall(HEADER, [])
    sane = len(given) == 1 and _SANE.fullmatch(given[0])
    request_id = given[0] if sane else make_request_id()
    logged_request_id.set(request_id)
    return request_id
