"""Counts and times every request by its route's template: what stands in a path is never a label."""

import asyncio

from aiohttp import web

from app.web.error_responses import Handler
from app.web.keys import SERVICE

#: Whatever else is sent as a method is `other`.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def http_metrics_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all others that answer: it counts what is sent, by whichever of the others."""
    loop, metrics = asyncio.get_running_loop(), request.app[SERVICE].metrics
    started_s = loop.time()
    status, seconds = 500, None
    try:
        response = await handler(request)
        status = response.status
        # A stream is ready when it ends, which says nothing about how long anybody waited.
        seconds = loop.time() - started_s if isinstance(response, web.Response) else None
    except web.HTTPException as answer:
        status = answer.status
        raise
    else:
        return response
    finally:
        metrics.note_request(_method(request), _route(request), status, seconds)


def _method(request: web.Request) -> str:
    return request.method if request.method in _METHODS else "other"


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unmatched"
