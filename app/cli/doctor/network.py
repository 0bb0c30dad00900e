"""Checks of the network: the service's port, and webhooks to PUBLIC_URL."""

import asyncio
import errno
import json
import secrets
import socket
import ssl
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, skipped, warning
from app.config.settings import ANY_HOST
from app.livekit import webhooks
from app.livekit.answers import read_within
from app.web.listener import open_any_host

WEBHOOK_PATH = "/api/livekit/webhook"
#: No LiveKit sends this: the service answers 200 and ignores it.
_TRIAL_EVENT = "agent_lifecycle_doctor"
_PATIENCE_S = 8
#: Names of container platforms and clusters.
_INSIDE = (".internal", ".cluster.local", ".svc", ".docker")
TIMEOUT = aiohttp.ClientTimeout(total=_PATIENCE_S)


async def check_port(context: CheckContext) -> Findings:
    host, port = context.config.host, context.config.port
    problem = await asyncio.to_thread(_try_to_listen, host, port)
    if problem is None:
        families = ", for IPv4 and IPv6" if host == ANY_HOST else ""
        yield ok(f"{f'[{host}]' if ':' in host else host}:{port} is free{families}")
    elif problem.errno == errno.EADDRINUSE:
        yield await _examine_listener(context)
    elif problem.errno in (errno.EACCES, errno.EPERM):
        yield fault(
            f"this user may not listen on port {port}", "export PORT=8080   (ports below 1024 need root)"
        )
    else:
        yield fault(
            f"HOST {host} is not an address of this machine ({problem.strerror})", f"export HOST={ANY_HOST}"
        )


async def check_browsers(context: CheckContext) -> Findings:
    """The token endpoint gives browsers an address of LiveKit: not each one means something to them."""
    url = context.config.browser_livekit_url
    host = urlsplit(url).hostname or ""
    if not _is_for_machines_inside(host):
        yield ok(f"browsers are sent to LiveKit at {url}")
        return
    yield warning(
        f"browsers are sent to LiveKit at {url}, a name that they cannot reach: only machines inside know it",
        "export LIVEKIT_PUBLIC_URL=wss://<where browsers reach LiveKit>",
    )


def _is_for_machines_inside(host: str) -> bool:
    """Whether only a container network or a cluster knows the name."""
    if host.endswith(_INSIDE):
        return True
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return "." not in host and host != "localhost"


async def check_webhook(context: CheckContext) -> Findings:
    """Send the service a webhook as LiveKit would, with LiveKit's signature."""
    public_url = context.config.public_url
    if public_url is None:
        yield skipped(
            "PUBLIC_URL is not set: whether webhooks reach the service is unknown",
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
            url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
        ) as response:
            text = (await response.content.read(64 * 1024)).decode("utf-8", "replace")
            yield _judge(url, response.status, text, response.headers.get("Location", ""))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        yield unreachable(
            "PUBLIC_URL",
            url,
            error,
            no_tls="renew the certificate or use http://: LiveKit rejects it too",
            not_listening="start the service or correct PUBLIC_URL; LiveKit must be able to reach it",
        )


async def is_our_service(http: aiohttp.ClientSession, base_url: str) -> str | None:
    """The readiness of the service there; None if it is not this service."""
    try:
        async with http.get(f"{base_url}/readyz", timeout=TIMEOUT, allow_redirects=False) as response:
            report = json.loads(await read_within(response))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
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
        return ok(f"the service is running on port {port} and {state}")
    return fault(
        f"port {port} is in use by another program",
        f"ss -ltnp 'sport = :{port}'   shows the program; or use another port:  export PORT={port + 1}",
    )


def _try_to_listen(host: str, port: int) -> OSError | None:
    try:
        if host == ANY_HOST:
            open_any_host(port).close()
            return None
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            # Like aiohttp: a port that was closed a moment ago counts as free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        return error
    return None


def _judge(url: str, status: int, text: str, location: str) -> Finding:
    if status == HTTPStatus.OK and _says_success(text):
        return ok(f"{url} accepts a webhook signed with LIVEKIT_API_KEY")
    if location:
        target = urlsplit(location)
        base = f"{target.scheme}://{target.netloc}" if target.netloc else "https://..."
        return fault(
            f"{url} redirects: webhooks are lost, since the POST may become a GET",
            f"export PUBLIC_URL={base}   and change LiveKit's webhook.urls likewise",
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return fault(
            f"the service at {url} rejected a webhook with this key: it has other keys or another time",
            "set this LIVEKIT_API_KEY and LIVEKIT_API_SECRET there, or add them to its LIVEKIT_WEBHOOK_KEYS",
        )
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return fault(
            f"there is no webhook endpoint at {url} ({status})",
            f"set PUBLIC_URL to the address of this service, without {WEBHOOK_PATH}",
        )
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        return fault(
            f"{url} answered {status}: the proxy there has no service that accepts webhooks now",
            "start the service or check /readyz; the proxy must forward to $PORT",
        )
    if status == HTTPStatus.OK:
        return fault(
            f"{url} answers but is not this service", "set PUBLIC_URL to the address of this service"
        )
    return fault(
        f"{url} answered {status} to a webhook",
        "check the log of the service and of the proxy in front of it",
    )


def _says_success(text: str) -> bool:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("success") is True


def unreachable(setting: str, url: str, error: Exception, *, no_tls: str, not_listening: str) -> Finding:
    """Why the URL of a setting cannot be reached, with the given fixes for two of the reasons."""
    host = urlsplit(url).hostname or ""
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return fault(
            f"the host of {setting}, {host}, does not resolve",
            f"correct the name or this machine's DNS:  getent hosts {host}",
        )
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return fault(f"no TLS or no valid certificate at {url}", no_tls)
    if isinstance(error, TimeoutError):
        return fault(
            f"no answer from {url} within {_PATIENCE_S} s", f"check for a firewall between here and {host}"
        )
    return fault(f"nothing listens at {url}", not_listening)
