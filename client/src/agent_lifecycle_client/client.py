"""The two clients: `Client` for threads, `AsyncClient` for asyncio and trio."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
import stamina

from agent_lifecycle_client import answers, calls
from agent_lifecycle_client.calls import Call
from agent_lifecycle_client.errors import ServiceUnreachable
from agent_lifecycle_client.model_base import Model

P = ParamSpec("P")
T = TypeVar("T", bound=Model)

#: The service answers within 10 s whatever LiveKit does, except where a call asks it to wait.
TIMEOUT_S = 15.0
_CONNECT_S = 5.0
_FIRST_WAIT_S, _JITTER_S = 0.25, 0.25


def _method(build: Callable[P, Call[T]]) -> "Callable[Concatenate[Client, P], T]":
    """The method of `Client` that sends what `build` makes."""

    @functools.wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    return _signed(method, build)


def _async_method(
    build: Callable[P, Call[T]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    """The same for `AsyncClient`."""

    @functools.wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    return _signed(method, build)


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method, build: Callable[..., Call[T]]) -> Method:
    """The method with the signature that `help` shows and mocks check: that of `build`, with `self`."""
    signature = inspect.signature(build)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    (answer,) = signature.return_annotation.__args__
    parameters = [itself, *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=answer)  # type: ignore[attr-defined]
    return method


class Client:
    """Calls one service with one credential; close it, or use it in a `with` statement."""

    def __init__(
        self,
        base_url: str,
        credential: str,
        *,
        timeout_s: float = TIMEOUT_S,
        attempts: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Makes no request.

        Args:
            base_url: where the service is, such as `https://agents.example.com`.
            credential: an API key of the service, or the LiveKit token of a participant.
            timeout_s: for each attempt of a call; one that waits for an agent has as much longer.
            attempts: how often a call is sent at most, where that is safe.
            transport: httpx's, for proxies and tests.

        Raises:
            ValueError: the URL is not of HTTP or has a user in it, or the credential cannot be in a header.
        """
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._http = httpx.Client(**_connection(base_url, credential), transport=transport)

    def send(self, call: Call[T]) -> T:
        """Send a call of `agent_lifecycle_client.calls`; the methods below do."""
        for attempt in stamina.retry_context(**_limits(call, self._attempts)):
            with attempt:
                return self._send_once(call)
        raise AssertionError  # pragma: no cover - the last attempt answers or raises

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _send_once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(**_request(call, self._timeout_s))
        except httpx.RequestError as error:
            raise _unreachable(self._http.base_url, error) from error
        return answers.read(call, response)

    request_agent = _method(calls.request_agent)
    end_agent = _method(calls.end_agent)
    show_status = _method(calls.show_status)
    issue_token = _method(calls.issue_token)
    list_agents = _method(calls.list_agents)
    show_agent = _method(calls.show_agent)
    hold_agent = _method(calls.hold_agent)
    resume_agent = _method(calls.resume_agent)
    show_usage = _method(calls.show_usage)
    forget_room = _method(calls.forget_room)
    list_events = _method(calls.list_events)
    list_event_endpoints = _method(calls.list_event_endpoints)
    replay_events = _method(calls.replay_events)
    list_workers = _method(calls.list_workers)
    drain_worker = _method(calls.drain_worker)
    undrain_worker = _method(calls.undrain_worker)
    drain_deployment = _method(calls.drain_deployment)
    undrain_deployment = _method(calls.undrain_deployment)
    show_health = _method(calls.show_health)
    show_readiness = _method(calls.show_readiness)


class AsyncClient:
    """As `Client`, with coroutines; close it with `aclose`, or use it in an `async with` statement."""

    def __init__(
        self,
        base_url: str,
        credential: str,
        *,
        timeout_s: float = TIMEOUT_S,
        attempts: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Makes no request. The arguments are those of `Client`."""
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._http = httpx.AsyncClient(**_connection(base_url, credential), transport=transport)

    async def send(self, call: Call[T]) -> T:
        """Send a call of `agent_lifecycle_client.calls`; the methods below do."""
        async for attempt in stamina.retry_context(**_limits(call, self._attempts)):
            with attempt:
                return await self._send_once(call)
        raise AssertionError  # pragma: no cover - the last attempt answers or raises

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send_once(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(**_request(call, self._timeout_s))
        except httpx.RequestError as error:
            raise _unreachable(self._http.base_url, error) from error
        return answers.read(call, response)

    request_agent = _async_method(calls.request_agent)
    end_agent = _async_method(calls.end_agent)
    show_status = _async_method(calls.show_status)
    issue_token = _async_method(calls.issue_token)
    list_agents = _async_method(calls.list_agents)
    show_agent = _async_method(calls.show_agent)
    hold_agent = _async_method(calls.hold_agent)
    resume_agent = _async_method(calls.resume_agent)
    show_usage = _async_method(calls.show_usage)
    forget_room = _async_method(calls.forget_room)
    list_events = _async_method(calls.list_events)
    list_event_endpoints = _async_method(calls.list_event_endpoints)
    replay_events = _async_method(calls.replay_events)
    list_workers = _async_method(calls.list_workers)
    drain_worker = _async_method(calls.drain_worker)
    undrain_worker = _async_method(calls.undrain_worker)
    drain_deployment = _async_method(calls.drain_deployment)
    undrain_deployment = _async_method(calls.undrain_deployment)
    show_health = _async_method(calls.show_health)
    show_readiness = _async_method(calls.show_readiness)


def _connection(base_url: str, credential: str) -> dict[str, Any]:
    # No error shows what was given: it may be the credential, if the two were swapped, or have a password.
    if not base_url.startswith(("http://", "https://")):
        raise ValueError("base_url does not begin with http:// or https://")
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("base_url begins with http:// or https://, but is no URL") from None
    if url.userinfo:
        # httpx would send it in place of the credential.
        raise ValueError("base_url has a user or a password in it: `http://` and the host are enough")
    if not url.host:
        raise ValueError("base_url has no host after http:// or https://")
    # httpx would say so in each call, and show the credential.
    if not (credential.isascii() and credential.isprintable() and credential.strip() == credential != ""):
        raise ValueError("The credential is empty, or has characters that a header cannot have")
    headers = {"Authorization": f"Bearer {credential}", "Accept": "application/json"}
    return {"base_url": url, "headers": headers}


def _request(call: Call[T], timeout_s: float) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "json": call.body,
        "timeout": httpx.Timeout(timeout_s + call.extra_s, connect=min(timeout_s, _CONNECT_S)),
    }


def _limits(call: Call[T], attempts: int) -> dict[str, Any]:
    return {
        "on": answers.retry_on(call),
        "attempts": attempts,
        # Each attempt has its own, and so has each wait.
        "timeout": None,
        "wait_initial": _FIRST_WAIT_S,
        "wait_jitter": _JITTER_S,
        "wait_max": answers.LONGEST_WAIT_S,
    }


def _unreachable(base_url: httpx.URL, error: httpx.RequestError) -> ServiceUnreachable:
    return ServiceUnreachable(f"No answer from {answers.origin(base_url)}: {error or type(error).__name__}")
