"""The way in of LiveKit's webhooks: verified, understood, committed, answered; docs/ingest.md has why.

Nearly all requests are webhooks, and none of them is a browser's. So a good POST to their path does not go
through the application's middlewares and routes: what of these a webhook needs is done here, once.
"""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from app.errors import ServiceError
from app.livekit import webhooks
from app.service import Service
from app.web.bodies import json_response, read_body
from app.web.envelope import Envelope
from app.web.keys import WEBHOOK_PATH
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
    envelope: Envelope, keys: Mapping[str, str], service: Callable[[], Service]
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The handler of a POST to the webhooks' path, in the envelope that the application has too."""
    content_type = CIMultiDict({"Content-Type": "application/json"})
    taken = json_response(Taken()).body

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        async def handle() -> web.Response:
            await receive_webhook(request, service(), keys)
            return web.Response(body=taken, headers=content_type.copy())

        response = await envelope.answer(request, WEBHOOK_PATH, handle)
        await envelope.add_headers(request, response)
        return response

    return take
