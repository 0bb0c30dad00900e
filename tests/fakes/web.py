"""An application of the test's own, in the envelope of the real one."""

from aiohttp import web

from app.clock import Clock
from app.lifecycle.mode import Mode
from app.logs.counts import LogCounts
from app.metrics.counters import Counters
from app.metrics.registry import Metrics
from app.web.envelope import Envelope
from app.web.refusals import Refusals


def enveloped_app(clock: Clock) -> web.Application:
    """Without routes, and without headers other than the request id."""
    metrics = Metrics(Counters(mode=Mode.ENFORCE), LogCounts(), clock)
    envelope = Envelope(clock, lambda: metrics, {}, Refusals(clock, ()))
    app = web.Application(middlewares=[envelope.middleware])
    app.on_response_prepare.append(envelope.add_headers)
    return app
