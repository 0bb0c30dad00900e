"""Webhooks: verified, translated, committed, and answered; docs/ingest.md has the reasons.

Nearly all requests are webhooks in the usual form, so these are taken without aiohttp. Every other webhook
comes to the endpoint's handler, as other requests do, with the same result.
"""

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web

from app.clock import Clock
from app.config.settings import Secrets
from app.errors import Busy, ServiceError
from app.lifecycle.warm import is_holding_room
from app.livekit import webhooks
from app.logs.context import bind
from app.service import Service
from app.state.changes import Outcome, RoomEvent
from app.web.bodies import json_response, read_body
from app.web.envelope import Envelope
from app.web.error_responses import render_failure
from app.web.keys import WEBHOOK_PATH
from app.web.raw_answers import PreparedAnswer
from app.web.request_id import make_request_id
from app.web.schemas import Taken
from app.web.usual_request import UsualRequest

WEBHOOK_LIMIT = 1024 * 1024

_IGNORED = "ignored"


async def receive_webhook(request: web.BaseRequest, service: Service, keys: Secrets) -> None:
    """Process one webhook; on return it is committed, or ignored.

    LiveKit signs the raw bytes, so the body is read here, and only after the token is verified.

    Raises:
        ServiceError: it was not committed.
    """
    event, result, sent_at = "unknown", ServiceError.code, None
    try:
        digest = webhooks.signed_digest(request.headers.get("Authorization"), keys)
        body = await read_body(request, WEBHOOK_LIMIT)
        webhooks.check_digest(body, digest)
        webhook = webhooks.translate(body)
        event, sent_at = webhook.known_name, webhook.sent_at
        needed = _event_to_commit(webhook, service)
        result = _result(await service.processor.submit_one(needed)) if needed else _IGNORED
    except ServiceError as error:
        result = error.code
        raise
    except asyncio.CancelledError:
        # A stop gives it up.
        result = Busy.code
        raise
    finally:
        service.metrics.note_webhook("long", event, result, sent_at)


class WebhookIntake:
    """Takes webhooks in the usual form, without a task for each."""

    def __init__(
        self, envelope: Envelope, clock: Clock, keys: Secrets, service: Callable[[], Service]
    ) -> None:
        self._envelope = envelope
        self._clock = clock
        self._keys = keys
        self._service = service
        self._taken = self._prepared(json_response(Taken()))

    def take(
        self, request: UsualRequest, received: bytes, answer: Callable[[bytes], None]
    ) -> "PendingWebhook | None":
        """Take a whole request, and call `answer` once with all bytes of the answer, perhaps at once.

        None: nothing was done. The webhook may be invalid, and the endpoint's handler decides.
        """
        webhook = webhooks.read_usual(request.authorization, received[request.body_at :], self._keys)
        if webhook is None:
            return None
        pending = PendingWebhook(
            self, webhook, request.request_id or make_request_id(), self._clock.now(), answer
        )
        service = self._service()
        try:
            if needed := _event_to_commit(webhook, service):
                service.processor.submit_for(pending, needed)
            else:
                self.answer_taken(pending, _IGNORED)
        except Exception as error:  # noqa: BLE001 - every failure gets an answer
            pending.take_failure(error)
        return pending

    def answer_taken(self, pending: "PendingWebhook", result: str) -> None:
        now = self._clock.now()
        self._note(pending, result, web.HTTPOk.status_code, now)
        pending.finish(self._taken.render(pending.request_id))

    def answer_failure(self, pending: "PendingWebhook", error: Exception) -> None:
        now = self._clock.now()
        with bind(pending.request_id):
            failure = render_failure(error)
        result = error.code if isinstance(error, ServiceError) else ServiceError.code
        self._note(pending, result, failure.status, now)
        pending.finish(self._prepared(failure).render(pending.request_id))

    def _prepared(self, response: web.Response) -> PreparedAnswer:
        assert isinstance(response.body, bytes)  # noqa: S101 - our own responses are
        return PreparedAnswer(response.status, self._envelope.headers_of(response), response.body)

    def _note(self, pending: "PendingWebhook", result: str, status: int, now: int) -> None:
        webhook = pending.webhook
        self._service().metrics.note_webhook("short", webhook.known_name, result, webhook.sent_at)
        self._envelope.note(pending.request_id, "POST", WEBHOOK_PATH, status, now - pending.began_at)


class PendingWebhook:
    """A webhook on its way; the group commit tells it the outcome."""

    __slots__ = ("_answer", "_intake", "began_at", "request_id", "webhook")

    def __init__(
        self,
        intake: WebhookIntake,
        webhook: webhooks.Webhook,
        request_id: str,
        began_at: int,
        answer: Callable[[bytes], None],
    ) -> None:
        self._intake = intake
        self.webhook = webhook
        self.request_id = request_id
        self.began_at = began_at
        #: None: it is answered.
        self._answer: Callable[[bytes], None] | None = answer

    @property
    def is_answered(self) -> bool:
        return self._answer is None

    def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        if self._answer:
            self._intake.answer_taken(self, _result(outcomes[0]))

    def take_failure(self, error: Exception) -> None:
        if self._answer:
            self._intake.answer_failure(self, error)

    def finish(self, answer: bytes) -> None:
        """Send the answer."""
        send, self._answer = self._answer, None
        if send:
            send(answer)


WEBHOOK_INTAKE = web.AppKey("webhook_intake", WebhookIntake)


def _event_to_commit(webhook: webhooks.Webhook, service: Service) -> RoomEvent | None:
    """What is to be committed; None for what is ignored."""
    if webhook.event and is_holding_room(webhook.event.room_name):
        service.warm_pool.note_event(webhook.event.room_name)
        return None
    return webhook.event


def _result(outcome: Outcome) -> str:
    return "applied" if outcome.applied else "stale"
