"""The service's address: is its port its own, and does a webhook reach it where LiveKit sends it."""

import asyncio
import errno
import json
import secrets
import socket
import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, skipped
from app.livekit import webhooks

WEBHOOK_PATH = "/api/livekit/webhook"
#: What no LiveKit sends: the service answers 200 and ignores it.
_TRIAL_EVENT = "agent_lifecycle_doctor"
_PATIENCE_S = 8
_TIMEOUT = aiohttp.ClientTimeout(total=_PATIENCE_S)


async def check_port(context: CheckContext) -> Findings:
    host, port = context.config.host, context.config.port
    problem = await asyncio.to_thread(_try_to_listen, host, port)
    if problem is None:
        yield ok(f"{host}:{port} is free for the service")
    elif problem.errno == errno.EADDRINUSE:
        yield await _examine_listener(context)
    elif problem.errno in (errno.EACCES, errno.EPERM):
        yield fault(
            f"this user may not listen on port {port}", "export PORT=8080   (ports below 1024 are root's)"
        )
    else:
        yield fault(f"HOST {host} is no address of this machine ({problem.strerror})", "export HOST=0.0.0.0")


async def check_webhook(context: CheckContext) -> Findings:
    """Send ourselves what LiveKit would, signed as LiveKit signs."""
    public_url = context.config.public_url
    if public_url is None:
        yield skipped(
            "PUBLIC_URL is not set, so that nobody can say whether webhooks reach the service",
            "export PUBLIC_URL=https://<where LiveKit reaches this service>",
        )
        return
    body = json.dumps({"event": _TRIAL_EVENT, "id": f"EV_{secrets.token_hex(6)}"}).encode()
    headers = {
        "Authorization": webhooks.sign(body, context.config.livekit_key),
        "Content-Type": "application/webhook+json",
    }
    url = public_url + WEBHOOK_PATH
    try:
        async with context.http.post(
            url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            text = (await response.content.read(64 * 1024)).decode("utf-8", "replace")
            yield _judge(url, response.status, text, response.headers.get("Location", ""))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        yield _unreached(url, error)


async def is_our_service(http: aiohttp.ClientSession, base_url: str) -> str | None:
    """How the service there is, in its own words; None when it is none of ours."""
    try:
        async with http.get(f"{base_url}/readyz", timeout=_TIMEOUT, allow_redirects=False) as response:
            report = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    if not isinstance(report, dict) or not {"ready", "database", "timers", "livekit"} <= report.keys():
        return None
    return (
        "is ready"
        if report["ready"]
        else f"is not ready (LiveKit: {report['livekit']}; database: {report['database']})"
    )


async def _examine_listener(context: CheckContext) -> Finding:
    port = context.config.port
    state = await is_our_service(context.http, context.local_url)
    if state:
        return ok(f"the service runs on port {port} and {state}")
    return fault(
        f"port {port} is taken by something else",
        f"ss -ltnp 'sport = :{port}'   shows by what; or choose another:  export PORT={port + 1}",
    )


def _try_to_listen(host: str, port: int) -> OSError | None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            # As aiohttp does it: a port that somebody has just left counts as free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        return error
    return None


def _judge(url: str, status: int, text: str, location: str) -> Finding:
    if status == HTTPStatus.OK and _says_success(text):
        return ok(f"a webhook signed with our key is taken at {url}")
    if location:
        target = urlsplit(location)
        base = f"{target.scheme}://{target.netloc}" if target.netloc else "https://..."
        return fault(
            f"{url} redirects: a webhook's POST may arrive there as a GET, and be lost",
            f"export PUBLIC_URL={base}   and the same in LiveKit's webhook.urls",
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return fault(
            f"the service at {url} refuses webhooks signed with our key: it has others, or another time",
            "give it this LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or add them to its LIVEKIT_WEBHOOK_KEYS",
        )
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return fault(
            f"there is no webhook endpoint at {url} ({status})",
            f"PUBLIC_URL is the service's address without {WEBHOOK_PATH}; look whether it is this service's",
        )
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        return fault(
            f"{url} answered {status}: there is a proxy, and no service behind it that takes webhooks now",
            "start the service, or look at /readyz; the proxy has to send to $PORT",
        )
    if status == HTTPStatus.OK:
        return fault(f"{url} answers, but it is not this service", "set PUBLIC_URL to this service's address")
    return fault(
        f"{url} answered {status} to a webhook", "look into the log of the service, or of the proxy before it"
    )


def _says_success(text: str) -> bool:
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("success") is True


def _unreached(url: str, error: Exception) -> Finding:
    host = urlsplit(url).hostname or ""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return fault(
            f"PUBLIC_URL names {host}, which does not resolve",
            f"correct the name, or this machine's DNS:  getent hosts {host}",
        )
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return fault(
            f"there is no TLS, or no good certificate, at {url}",
            "LiveKit refuses it too: renew the certificate, or use http://",
        )
    if isinstance(error, TimeoutError):
        return fault(
            f"nothing answers at {url} within {_PATIENCE_S} s",
            f"look for a firewall on the way to {host}",
        )
    return fault(
        f"nothing listens at {url}",
        "start the service, or correct PUBLIC_URL; LiveKit has to reach it from where it runs",
    )
