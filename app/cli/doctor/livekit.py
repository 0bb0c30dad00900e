"""Checks of LiveKit: reachable, clock in sync, keys accepted, rooms open long enough."""

import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from livekit import api

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, warning
from app.cli.doctor.network import TIMEOUT, unreachable
from app.lifecycle import SECOND_US
from app.livekit.answers import time_of, twirp_body
from app.livekit.jwt import LEEWAY_S

_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"
#: A Date header has whole seconds, and the request takes some time.
_UNNOTICED_S = 5
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    body: bytes
    #: By LiveKit's clock.
    sent_at: int | None


async def check_livekit(context: CheckContext) -> Findings:
    url = context.config.livekit_url
    try:
        answer = await _ask(context, None)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        yield _unreachable(url, error)
        return
    # The request is unsigned: LiveKit rejects it in its own format.
    if answer.status == HTTPStatus.UNAUTHORIZED and twirp_body(answer.body):
        yield ok(f"LiveKit answers at {url}")
        return
    yield fault(
        f"{url} answers HTTP but is not a LiveKit server (room service: {answer.status})",
        "set LIVEKIT_URL to the LiveKit server itself, without a path: wss://<project>.livekit.cloud,"
        " or ws://<host>:7880",
    )


async def check_clock(context: CheckContext) -> Findings:
    before = context.clock.now()
    answer = await _ask(context, None)
    here_at = (before + context.clock.now()) // 2
    if answer.sent_at is None:
        yield ok("not comparable: LiveKit's answers have no Date")
        return
    ahead_s = round((here_at - answer.sent_at) / SECOND_US)
    apart = f"this machine's clock is {abs(ahead_s)} s {'ahead of' if ahead_s > 0 else 'behind'} LiveKit's"
    fix = "turn on NTP on the machine that is wrong:  timedatectl set-ntp true"
    if abs(ahead_s) > LEEWAY_S:
        yield fault(f"{apart}: beyond {LEEWAY_S} s tokens and webhooks are rejected", fix)
    elif abs(ahead_s) > _UNNOTICED_S:
        yield warning(f"{apart}; beyond {LEEWAY_S} s tokens and webhooks are rejected", fix)
    else:
        yield ok("this machine's clock and LiveKit's agree")


async def check_keys(context: CheckContext) -> Findings:
    answer = await _ask(context, _room_list_token(context))
    if answer.status == HTTPStatus.OK:
        yield ok("LiveKit accepts LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    else:
        yield _refusal(answer)


async def check_features(context: CheckContext) -> Findings:
    """An older LiveKit lacks calls that the service uses."""
    if await context.livekit.can_probe():
        yield ok("LiveKit has every call that the service uses")
        return
    yield warning(
        "LiveKit is older than 1.9.2 and cannot probe agents: a frozen agent is not noticed, and the helper"
        " cannot report that its session is closed",
        "update livekit-server to 1.9.2 or later   (docs/compatibility.md)",
    )


async def check_rooms(context: CheckContext) -> Findings:
    """Rooms that others created may close long before an agent's TTL expires."""
    rooms = await context.livekit.list_rooms()
    enough_s = context.config.room_timeout_s
    ttl_s = max(policy.longest_ttl_s for policy in context.config.policies.values())
    short = [room for room in rooms if room.departure_timeout_s < ttl_s]
    if not short:
        yield ok(f"{len(rooms)} rooms are open; none closes before the longest TTL, {ttl_s} s")
        return
    shortest_s = min(room.departure_timeout_s for room in short)
    names = ", ".join(room.name for room in short[:_NAMES_SHOWN])
    which = "" if context.config.log_redact else f" ({names})"
    yield warning(
        f"{len(short)} of {len(rooms)} rooms{which} close {shortest_s} s after the last person leaves, with"
        f" their agents, before the longest TTL, {ttl_s} s",
        "request the agent before you join, get tokens from /api/livekit/token, or put"
        f' "roomConfig": {{"departureTimeout": {enough_s}}} into the tokens that create these rooms',
    )


def _room_list_token(context: CheckContext) -> str:
    pair = context.config.livekit_key
    token = api.AccessToken(pair.key, pair.secret).with_grants(api.VideoGrants(room_list=True))
    return token.with_ttl(timedelta(minutes=5)).to_jwt()


async def _ask(context: CheckContext, token: str | None) -> _Answer:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with context.http.post(
        context.livekit_http_url + _LIST_ROOMS,
        json={},
        headers=headers,
        timeout=TIMEOUT,
        allow_redirects=False,
    ) as response:
        body = await response.content.read(64 * 1024)
        return _Answer(status=response.status, body=body, sent_at=time_of(response.headers.get("Date")))


def _unreachable(url: str, error: Exception) -> Finding:
    parts = urlsplit(url)
    other = "ws" if parts.scheme in ("wss", "https") else "wss"
    export = f"export LIVEKIT_URL={other}://{parts.netloc.rpartition('@')[2]}"
    if not isinstance(error, aiohttp.ClientConnectorError | TimeoutError | ssl.SSLError | socket.gaierror):
        return fault(
            f"{url} does not answer HTTP ({type(error).__name__})",
            f"use wss:// for a server with TLS and ws:// for one without:  {export}",
        )
    return unreachable(
        "LIVEKIT_URL",
        url,
        error,
        no_tls=f"if the server has no TLS:  {export}",
        not_listening="start LiveKit or correct LIVEKIT_URL; in a container 127.0.0.1 is the container",
    )


def _refusal(answer: _Answer) -> Finding:
    """LiveKit's message may repeat the token, so that it is not shown."""
    if b"invalid API key" in answer.body:
        return fault(
            "LiveKit does not know LIVEKIT_API_KEY",
            "use the key and secret of the project in LIVEKIT_URL (LiveKit Cloud: Settings, Keys) or from"
            " `keys:` in the server's YAML",
        )
    if b"expired" in answer.body or b"not valid yet" in answer.body:
        return fault(
            "LiveKit rejected the token because of its time", "set this machine's clock and LiveKit's by NTP"
        )
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return fault(
            "LiveKit knows LIVEKIT_API_KEY, but LIVEKIT_API_SECRET is not its secret",
            "copy the secret again, without quotes or trailing spaces; if it is lost, create a new key",
        )
    return fault(f"LiveKit answered {answer.status} to a valid request", "check LiveKit's log")
