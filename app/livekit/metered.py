"""LiveKit with every call counted and timed."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, cast

from app.errors import LiveKitRefused, LiveKitTimeout, LiveKitUnavailable, LiveKitUnreachable
from app.livekit.interface import LiveKit
from app.metrics.counters import Counters
from app.metrics.registry import Metrics

#: The first match counts: the first two are subclasses of the third.
_RESULTS = {
    LiveKitUnreachable: "unreachable",
    LiveKitTimeout: "timeout",
    LiveKitUnavailable: "unavailable",
    LiveKitRefused: "refused",
    Exception: "error",
    BaseException: "cancelled",
}


def metered(livekit: LiveKit, counters: Counters, metrics: Metrics) -> LiveKit:
    """The same LiveKit; all calls go through here, whichever client makes them."""

    def count(method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: object, **kwargs: object) -> object:
            result, answer = "ok", None
            try:
                with metrics.livekit_call(method):
                    answer = await getattr(livekit, method)(*args, **kwargs)
            except BaseException as error:
                result = next(name for kind, name in _RESULTS.items() if isinstance(error, kind))
                raise
            finally:
                counters.livekit_calls[method, result] += 1
                if method == "probe":
                    counters.probes[str(answer or "failed")] += 1
            return answer

        return call

    methods = {name: count(name) for name, method in vars(LiveKit).items() if iscoroutinefunction(method)}
    return cast("LiveKit", SimpleNamespace(now=livekit.now, **methods))
