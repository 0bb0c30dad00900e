"""A server at LiveKit's address that answers every request with the same bytes, whatever they are."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType

PROTOBUF = "application/protobuf"
_PAGE = b"<!doctype html><title>Maintenance</title><p>We are back soon."


def answer(status: int, body: bytes = b"", content_type: str = "", *headers: str) -> bytes:
    """An answer with a whole body; without a content type it has no such header."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", "Connection: close", *headers]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def failed(status: int, body: bytes) -> bytes:
    return answer(status, body, "application/json")


#: Larger than the limit that the tests set.
LIMIT = 1024 * 1024
_HUGE = b"x" * (LIMIT + 1)

#: What a client must not take for an answer of LiveKit's, by what it is.
SICK: Mapping[str, bytes] = MappingProxyType(
    {
        "a page": answer(200, _PAGE, "text/html"),
        "a page that says it is protobuf": answer(200, _PAGE, PROTOBUF),
        "nothing, of no type": answer(200),
        "nothing, as a page": answer(200, b"", "text/html"),
        "nothing, as JSON": answer(200, b"", "application/json"),
        "JSON": answer(200, b'{"rooms":[]}', "application/json"),
        "protobuf that breaks off": answer(200, b"\x0a\x7f\x0a", PROTOBUF),
        "no content": answer(204),
        "created": answer(201, b"", PROTOBUF),
        "a redirect to itself": answer(307, b"", "", "Location: /"),
        "a redirect to a login": answer(302, b"", "", "Location: http://127.0.0.1:1/login"),
        "400 with a list": failed(400, b"[1,2]"),
        "400 with a number": failed(400, b"7"),
        "400 with half an object": failed(400, b'{"code":"not_found","msg"'),
        "400 with an empty object": failed(400, b"{}"),
        "404 without a message": failed(404, b'{"code":"not_found"}'),
        "404 without a code": failed(404, b'{"msg":"requested room does not exist"}'),
        "404 with a code of another house": failed(404, b'{"code":"NoSuchKey","msg":"not here"}'),
        "400 with other types": failed(400, b'{"code":7,"msg":[]}'),
        "400 with text that is not UTF-8": failed(400, b'{"code":"\xff","msg":""}'),
        "400 of great depth": failed(400, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "401 with a page": answer(401, _PAGE, "text/html"),
        "403 with a page": answer(403, _PAGE, "text/html"),
        "404 with a page": answer(404, _PAGE, "text/html"),
        "408 with nothing": answer(408),
        "429 with a page": answer(429, _PAGE, "text/html"),
        "500 with nothing": answer(500),
        "502 with a page": answer(502, _PAGE, "text/html"),
        "503 with a list": failed(503, b"[1,2]"),
        "too much": answer(200, _HUGE, PROTOBUF),
        "too much that says what is wrong": failed(400, b'{"code":"internal","msg":"' + _HUGE + b'"}'),
        "too much once it is unpacked": answer(200, gzip.compress(_HUGE), PROTOBUF, "Content-Encoding: gzip"),
        "less than it says": answer(200, b"12345678", PROTOBUF).removesuffix(b"8"),
        "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "not what it was packed as": answer(200, _PAGE, PROTOBUF, "Content-Encoding: gzip"),
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "a status of five digits": b"HTTP/1.1 20000 OK\r\nContent-Length: 0\r\n\r\n",
        "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        "more headers than anybody needs": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 50_000 + b"\r\n",
        "a header that is not text": b"HTTP/1.1 200 OK\r\nContent-Type: \xff\r\nContent-Length: 0\r\n\r\n",
        "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
        "a switch of protocols": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "a closed connection": b"",
    }
)


@dataclass
class SickLiveKit:
    #: What it sends to everybody.
    says: bytes = b""
    #: How many requests it got.
    asked: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever reads no more of an answer hangs up.
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            self.asked += 1
            writer.write(self.says)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def sick_livekit() -> AsyncIterator[SickLiveKit]:
    sick = SickLiveKit()
    server = await asyncio.start_server(sick.serve, "127.0.0.1", 0)
    sick.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield sick
