"""The way in of LiveKit's webhooks: verified, understood, committed, answered; docs/ingest.md has why.

Nearly all requests are webhooks, and none of them is a browser's. So a good POST to their path does not go
through the application's middlewares and routes: what of these a webhook needs is done here, once.
"""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from app.clock import Clock
from app.config.settings import Config
from app.errors import ServiceError
from app.lifecycle import SECOND_US
from app.livekit import webhooks
from app.service import Service
from app.web.bodies import json_response, read_body
from app.web.error_responses import render_failure
from app.web.keys import WEBHOOK_PATH
from app.web.middleware.access_log import log_request
from app.web.middleware.request_id import HEADER, settle_request_id
from app.web.middleware.security_headers import headers_for
from app.web.schemas import Taken

WEBHOOK_LIMIT = 1024 * 1024


async def receive_webhook(request: web.BaseRequest, service: Service, keys: Mapping[str, str]) -> None:
    """Take one webhook; when this returns it is committed, or is of no consequence.

    LiveKit signs the very bytes, so they are read here; and only for whoever holds a key of ours.

    Raises:
        ServiceError: it was not taken.
    """
    event, result, sent_at = "unknown", ServiceError.code, None
    try:
        digest = webhooks.signed_digest(request.headers.get("Authorization"), keys)
        body = await read_body(request, WEBHOOK_LIMIT)
        webhooks.check_digest(body, digest)
        webhook = webhooks.translate(body)
        sent_at = webhook.sent_at
        if webhook.name in webhooks.KNOWN_EVENTS:
            event = webhook.name
        if webhook.event is None:
            result = "ignored"
        else:
            outcome = await service.processor.submit_one(webhook.event)
            result = "applied" if outcome.applied else "stale"
    except ServiceError as error:
        result = error.code
        raise
    finally:
        service.metrics.note_webhook(event, result, sent_at)


def webhook_lane(
    config: Config, clock: Clock, service: Callable[[], Service]
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The handler of a POST to the webhooks' path, with all that the application would do around it."""
    keys = config.keys
    headers = CIMultiDict(headers_for(config.public_url))
    headers_if_taken = CIMultiDict({**headers, "Content-Type": "application/json"})
    taken = json_response(Taken()).body

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        began_at = clock.now()
        request_id = settle_request_id(request)
        try:
            await receive_webhook(request, service(), keys)
        except Exception as error:  # noqa: BLE001 - as in the application: every failure is answered
            response = render_failure(error)
            response.headers.update(headers)
        else:
            response = web.Response(body=taken, headers=headers_if_taken.copy())
        response.headers[HEADER] = request_id
        took_us = clock.now() - began_at
        service().metrics.note_request("POST", WEBHOOK_PATH, response.status, took_us / SECOND_US)
        log_request("POST", WEBHOOK_PATH, response.status, took_us)
        return response

    return take
