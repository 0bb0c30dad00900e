"""The gate of a worker: it takes no jobs beyond its slots, and none while it is drained from outside.

LiveKit has no public API for either. AgentServer's own drain cannot be undone, and whoever begins it ends the
running jobs at its end: so it is left to the worker's own shutdown.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from livekit.agents import AgentServer, JobRequest

#: The load of a worker that is full: at or above every load threshold but an infinite one.
_FULL_LOAD = 1.0

_log = logging.getLogger(__name__)


class Gate:
    """Wraps the worker's load and its answer to job requests; `install` once it has started."""

    def __init__(self, server: AgentServer, slots: int | None) -> None:
        self._server = server
        self.slots = slots
        #: Whether the service has told the worker to take no more jobs.
        self.is_shut = False
        #: As the worker's own function says.
        self.load = 0.0
        #: The jobs that the worker is about to accept.
        self._coming: set[str] = set()

    def install(self) -> None:
        own_load = self._server.load_fnc
        if own_load is not None:
            takes_server = bool(inspect.signature(own_load).parameters)

            def load(server: AgentServer) -> float:
                self.load = float(own_load(server) if takes_server else own_load())  # type: ignore[call-arg]
                return self.load if self._is_open() else max(self.load, _FULL_LOAD)

            self._server.load_fnc = load
        answer: Callable[[JobRequest], Awaitable[None]] | None = getattr(self._server, "_request_fnc", None)
        if answer is None:
            _log.warning("this livekit-agents is not known: the worker is full by its load alone")
            return

        async def answer_request(request: JobRequest) -> None:
            # With an infinite load threshold, as in development, LiveKit asks a full worker too.
            if not self._is_open():
                # Without `terminate`, LiveKit asks the next worker.
                await request.reject(terminate=False)
                return
            self._coming.add(request.id)
            try:
                await answer(request)
            finally:
                self._coming.discard(request.id)

        self._server._request_fnc = answer_request  # noqa: SLF001 - there is no public API for it

    @property
    def is_draining(self) -> bool:
        """Whether it takes no more jobs: the service has told it so, or it shuts down."""
        return self.is_shut or self._server.draining

    @property
    def accepts(self) -> bool:
        """Whether the worker would take a job now, by LiveKit's own rule and this one."""
        is_connected = not getattr(self._server, "_connecting", False)
        is_available: Callable[[], bool] = getattr(self._server, "_is_available", lambda: True)
        return not self.is_draining and is_connected and self._is_open() and is_available()

    def _is_open(self) -> bool:
        if self.is_shut:
            return False
        taken = self._coming | {info.job.id for info in self._server.active_jobs}
        return self.slots is None or len(taken) < self.slots


def job_fields(server: AgentServer) -> list[dict[str, Any]]:
    """The jobs that run, as they are reported."""
    return [
        {"jobId": info.job.id, "dispatchId": info.job.dispatch_id, "roomName": info.job.room.name}
        for info in server.active_jobs
    ]
