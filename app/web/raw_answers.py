"""Answers as bytes, for connections that write them without aiohttp."""

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from app.clock import wall_time_s
from app.web.request_id import HEADER


def raw_answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole answer."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class PreparedAnswer:
    """An answer that differs in its date and its request id alone."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._status = status
        self._headers = dict(headers)
        self._body = body
        #: The second that it is prepared for.
        self._now_s = -1
        self._until_id = self._after_id = b""

    def render(self, request_id: str) -> bytes:
        now_s = int(wall_time_s())
        if now_s != self._now_s:
            self._prepare(now_s)
        return self._until_id + request_id.encode() + self._after_id

    def _prepare(self, now_s: int) -> None:
        self._now_s = now_s
        headers = self._headers | {"Date": formatdate(now_s, usegmt=True), HEADER: ""}
        self._after_id = b"\r\n\r\n" + self._body
        self._until_id = raw_answer(self._status, headers, self._body).removesuffix(self._after_id)
