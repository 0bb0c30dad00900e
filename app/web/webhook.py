"""The webhook handler: verifies, translates and commits; docs/ingest.md has the reasons.

Nearly all requests are webhooks, and none of them comes from a browser. So a POST to their path bypasses the
application's middlewares and routes; the lane does the part of their work that a webhook needs.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from app.config.settings import Secrets
from app.errors import ServiceError
from app.lifecycle.warm import is_holding_room
from app.livekit import webhooks
from app.service import Service
from app.web.bodies import invite_body, json_response, read_body
from app.web.envelope import Envelope
from app.web.keys import WEBHOOK_PATH
from app.web.schemas import Taken

WEBHOOK_LIMIT = 1024 * 1024


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
        sent_at = webhook.sent_at
        if webhook.name in webhooks.KNOWN_EVENTS:
            event = webhook.name
        if webhook.event is None:
            result = "ignored"
        elif is_holding_room(webhook.event.room_name):
            service.warm_pool.note_event(webhook.event.room_name)
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
    envelope: Envelope, keys: Secrets, service: Callable[[], Service]
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The handler of a POST to the webhook path, in the same envelope as the application's routes."""
    content_type = CIMultiDict({"Content-Type": "application/json"})
    taken = json_response(Taken()).body

    async def take(request: web.BaseRequest) -> web.Response:
        await invite_body(request)
        await receive_webhook(request, service(), keys)
        return web.Response(body=taken, headers=content_type.copy())

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = await envelope.answer(request, WEBHOOK_PATH, take)
        envelope.complete(request, response)
        return response

    return answer
