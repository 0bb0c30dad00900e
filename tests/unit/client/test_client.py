"""What the Python client makes of answers and failures, sync and async: models, errors, more attempts."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import stamina
from agent_lifecycle_client import AsyncClient, Client, ServiceError, ServiceUnreachable, calls, errors
from agent_lifecycle_client.answers import retry_on
from agent_lifecycle_client.calls import Call

BASE = "https://agents.example.com/prefix"
STATUS = {"hasAgent": False, "state": "none"}

Answering = Callable[[httpx.Request], httpx.Response]
Send = Callable[[Call[Any], Answering], Any]

#: The blocking client and the other are two paths.
pytestmark = pytest.mark.every_case


def sent_sync(call: Call[Any], answering: Answering) -> Any:
    with Client(BASE, "key", transport=httpx.MockTransport(answering)) as client:
        return client.send(call)


def sent_async(call: Call[Any], answering: Answering) -> Any:
    async def send() -> Any:
        async with AsyncClient(BASE, "key", transport=httpx.MockTransport(answering)) as client:
            return await client.send(call)

    return asyncio.run(send())


@pytest.fixture(params=[sent_sync, sent_async])
def send(request: pytest.FixtureRequest) -> Send:
    sender: Send = request.param
    return sender


@pytest.fixture(autouse=True)
def _without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


class Script:
    """Answers in turn; the last answer is repeated. It notes what it was sent."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        # httpx writes into what it is given.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def failure(status: int, code: str, *, retryable: bool = False, **more: Any) -> httpx.Response:
    body = {"success": False, "code": code, "message": "why", "retryable": retryable, "requestId": "r-1"}
    headers = more.pop("headers", {})
    return httpx.Response(status, json=body | more, headers=headers)


def test_a_request_has_the_credential_the_path_under_the_base_and_json(send: Send) -> None:
    script = Script(failure(401, "unauthenticated"))
    with pytest.raises(errors.Unauthenticated):
        send(calls.request_agent("room", wait="ready", wait_s=20), script)

    (request,) = script.requests
    assert str(request.url) == f"{BASE}/api/livekit/dispatch-agent"
    assert request.headers["Authorization"] == "Bearer key"
    assert json.loads(request.content) == {"roomName": "room", "wait": "ready", "waitS": 20}
    # As long as the service may make it wait, and not for ever to connect.
    assert request.extensions["timeout"]["read"] == 15 + 60 + 20
    assert request.extensions["timeout"]["connect"] == 5


def test_an_error_has_all_that_the_service_says(send: Send) -> None:
    script = Script(
        failure(
            429,
            "at_capacity",
            retryable=True,
            queue={"position": 3, "waitedMs": 40},
            headers={"Retry-After": "5"},
        )
    )
    with pytest.raises(errors.AtCapacity, match=r"why \(at_capacity, request r-1\)") as caught:
        send(calls.request_agent("room"), script)

    error = caught.value
    assert (error.status, error.retryable, error.retry_after_s, error.request_id) == (429, True, 5, "r-1")
    assert error.queue is not None
    assert error.queue.position == 3
    # The caller has waited in the queue for this answer.
    assert len(script.requests) == 1


def test_a_code_of_a_later_service_is_a_service_error(send: Send) -> None:
    with pytest.raises(ServiceError) as caught:
        send(calls.show_status("room"), Script(failure(409, "haunted")))
    assert type(caught.value) is ServiceError
    assert caught.value.code == "haunted"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<h1>Bad gateway</h1>"),
        httpx.Response(200, json={"other": "program"}),
        httpx.Response(200, text="<h1>Welcome to nginx</h1>"),
        httpx.Response(404, json={"detail": "Not Found"}),
    ],
)
def test_an_answer_of_something_else_says_so(send: Send, answer: httpx.Response) -> None:
    with pytest.raises(errors.UnexpectedAnswer, match=f"{answer.status_code} .*agents.example.com") as caught:
        send(calls.end_agent("room"), Script(answer))
    assert caught.value.status == answer.status_code
    assert caught.value.retryable == (answer.status_code == 502)


@pytest.mark.parametrize(
    "trouble",
    [
        failure(503, "busy", retryable=True, headers={"Retry-After": "1"}),
        failure(503, "livekit_unavailable", retryable=True, headers={"Retry-After": "5"}),
        failure(503, "database_unavailable", retryable=True, headers={"Retry-After": "5"}),
        failure(429, "rate_limited", retryable=True, headers={"Retry-After": "2"}),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("no route"),
    ],
)
@pytest.mark.parametrize(
    "call", [calls.show_status("room"), calls.end_agent("room"), calls.hold_agent("AD_1")]
)
def test_what_has_done_nothing_is_sent_again(
    send: Send, call: Call[Any], trouble: httpx.Response | Exception
) -> None:
    script = Script(trouble, trouble, failure(403, "forbidden"))
    with pytest.raises(errors.Forbidden):
        send(call, script)
    assert len(script.requests) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("cut off"),
        httpx.DecodingError("not gzip"),
        httpx.TooManyRedirects("in circles"),
        httpx.Response(504),
        failure(504, "livekit_timeout"),
    ],
)
def test_what_may_have_been_done_is_sent_again_only_if_that_changes_nothing(
    send: Send, trouble: httpx.Response | Exception
) -> None:
    asked = Script(trouble, httpx.Response(200, json=STATUS))
    assert send(calls.show_status("room"), asked).state == "none"
    assert len(asked.requests) == 2

    for call in (
        calls.end_agent("room"),
        calls.forget_room("room"),
        calls.resume_agent("AD_1"),
        calls.request_agent("room", resume=True),
    ):
        ordered = Script(trouble)
        with pytest.raises(errors.AgentLifecycleError) as caught:
            send(call, ordered)
        assert len(ordered.requests) == 1
        assert isinstance(trouble, httpx.Response) or isinstance(caught.value, ServiceUnreachable)


@pytest.mark.parametrize(
    "code", ["no_worker", "crash_loop", "join_timeout", "agent_ended", "livekit_refused", "internal"]
)
def test_how_an_agent_fares_is_for_the_caller(send: Send, code: str) -> None:
    script = Script(failure(503, code, retryable=True, headers={"Retry-After": "5"}))
    with pytest.raises(errors.BY_CODE[code]):
        send(calls.request_agent("room", wait="ready"), script)
    assert len(script.requests) == 1


def test_a_call_that_waits_for_an_agent_has_its_whole_time_in_each_attempt(send: Send) -> None:
    script = Script(httpx.ReadTimeout("late"))
    with pytest.raises(ServiceUnreachable):
        send(calls.request_agent("room", wait="ready"), script)
    assert [request.extensions["timeout"]["read"] for request in script.requests] == [75, 75, 75]

    once = Script(httpx.ReadTimeout("late"))
    client = Client(BASE, "key", attempts=1, transport=httpx.MockTransport(once))
    with client, pytest.raises(ServiceUnreachable):
        client.request_agent("room", wait="ready")
    assert len(once.requests) == 1


def test_an_error_shows_neither_what_was_sent_nor_what_came_back(send: Send) -> None:
    """A traceback with its causes is what a log gets."""
    garbled = Script(httpx.Response(200, json={"serverUrl": ["s3cret"], "participantToken": ["s3cret"]}))
    for script in (garbled, Script(httpx.Response(200, text="s3cret")), Script(httpx.ReadTimeout("late"))):
        with pytest.raises(errors.AgentLifecycleError) as caught:
            send(calls.issue_token(room_name="s3cret"), script)
        messages = [str(caught.value), str(caught.value.__cause__)]
        assert all("s3cret" not in message for message in messages), messages
    with pytest.raises(errors.UnexpectedAnswer, match=r"https://agents\.example\.com$"):
        send(calls.show_status("room"), Script(httpx.Response(404)))


def test_the_attempts_are_bounded_and_the_last_error_is_raised(send: Send) -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(ServiceUnreachable, match=r"agents\.example\.com.*refused") as caught:
        send(calls.show_status("room"), script)
    assert len(script.requests) == 3
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(("said", "decided"), [(None, True), (4.0, 4.0), (11.0, False)])
def test_the_next_attempt_waits_as_long_as_the_service_says_or_is_left_out(
    said: float | None, *, decided: bool | float
) -> None:
    error = errors.RateLimited(
        "why", status=429, code="rate_limited", retryable=True, request_id="r-1", retry_after_s=said
    )
    decision = retry_on(calls.show_status("room"))(error)
    assert (decision, type(decision)) == (decided, type(decided))


def test_a_date_of_a_proxy_is_no_number_of_seconds(send: Send) -> None:
    date = {"Retry-After": "Mon, 30 Nov 2026 12:00:00 GMT"}
    with pytest.raises(errors.RateLimited) as caught:
        send(calls.show_status("room"), Script(failure(429, "rate_limited", headers=date)))
    assert caught.value.retry_after_s is None


def test_not_ready_is_an_answer(send: Send) -> None:
    report = {"ready": False, "database": "ok", "timers": "ok", "livekit": "not reachable", "missing": []}
    assert send(calls.show_readiness(), Script(httpx.Response(503, json=report))).livekit == "not reachable"


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_mistake_in_the_settings_is_told_at_once_and_shows_no_key(
    client: type[Client] | type[AsyncClient],
) -> None:
    for url in (
        "agents.secret.com",
        "ws://agents.secret.com",
        "",
        "http://",
        "http://host:secret",
        "http://user:secret@host",
        "https://secret@host",
    ):
        with pytest.raises(ValueError, match="http://") as wrong:
            client(url, "key")
        assert "secret" not in str(wrong.value)
        # httpx's own error has a part of the URL.
        assert wrong.value.__context__ is None or wrong.value.__suppress_context__
    for credential in ("", "secret\n", " secret", "s\u00e9cret"):
        with pytest.raises(ValueError, match="The credential") as caught:
            client(BASE, credential)
        assert "cret" not in str(caught.value)
