"""`attach`: the worker tells the service that it is there, what it runs, and what it can take."""

import asyncio
import logging
import os
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import aiohttp
from livekit.agents import AgentServer

from reusable_agent.gate import Gate, job_fields
from reusable_agent.lifecycle_service import (
    URL_VARIABLE,
    LifecycleService,
    ServiceRefusedError,
    ServiceUnavailableError,
)

#: Between two reports, until the service says otherwise.
INTERVAL_S = 1.5
VERSION_VARIABLE = "AGENT_VERSION"
DEPLOYMENT_VARIABLE = "LIVEKIT_AGENT_DEPLOYMENT"

TASK_NAME = "agent lifecycle reports"

_TIMEOUT_S = 2.0
#: At the end of the process, which waits for it.
_LAST_TIMEOUT_S = 1.0
#: What the service refuses, it refuses again: it may be of a version that knows no reports.
_AFTER_REFUSAL_S = 15.0
_SHORTEST_S, _LONGEST_S = 0.2, 60.0
#: Of the rooms in which an agent waits for a call.
_WARM_PREFIX = "agent-warm."

_log = logging.getLogger(__name__)


def attach(server: AgentServer, *, max_jobs: int | None = None, version: str | None = None) -> None:
    """Report the worker to the agent lifecycle service at AGENT_LIFECYCLE_URL; call it once, before it runs.

    `max_jobs`: how many jobs the worker takes at once; the service then knows how many slots are free.
    `version`: of the worker's code, for people; by default AGENT_VERSION. Without the URL nothing is done.
    """
    if max_jobs is not None and max_jobs < 1:
        raise ValueError("max_jobs must be at least 1")
    told = os.environ.get(VERSION_VARIABLE, "") if version is None else version
    reporter = Reporter(server, max_jobs=max_jobs, version=told)
    server.on("worker_started", reporter.prepare)
    server.on("worker_registered", reporter.begin)


class Reporter:
    """Reports one worker process as long as it runs."""

    def __init__(self, server: AgentServer, *, max_jobs: int | None, version: str) -> None:
        self._server = server
        self._gate = Gate(server, max_jobs)
        self._version = version
        #: LiveKit's id of the worker changes with each registration.
        self._id = uuid.uuid4().hex
        self._number = 0
        self._interval_s = INTERVAL_S
        self._service: LifecycleService | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_out = False

    def prepare(self) -> None:
        """Once the worker has started: only then are its own functions known."""
        self._service = LifecycleService.from_environment()
        if self._service is None:
            told = f"{URL_VARIABLE}, LIVEKIT_API_KEY or LIVEKIT_API_SECRET"
            _log.info("the worker is not reported: %s is not set", told)
            return
        self._gate.install()

    def begin(self, *_: object) -> None:
        """Begin at the first registration: in a console there is none."""
        if self._service and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._service), name=TASK_NAME)

    async def _run(self, service: LifecycleService) -> None:
        async with aiohttp.ClientSession() as session:
            try:
                while not self._has_ended():
                    wait_s = await self._report(service, session)
                    await asyncio.sleep(wait_s)
            finally:
                # Also when the process's event loop ends, which cancels all tasks and waits for them.
                await self._take_leave(service, session)

    def _has_ended(self) -> bool:
        # From the begin of its close on; its jobs end after that.
        is_closed = bool(getattr(self._server, "_closed", False))
        return is_closed and not self._server.active_jobs

    async def _report(self, service: LifecycleService, session: aiohttp.ClientSession) -> float:
        """Report once, and return the time until the next report."""
        try:
            answer = await service.post(session, "report", self._content(), timeout_s=_TIMEOUT_S)
            has_changed = self._take(answer)
        except ServiceRefusedError as error:
            self._note_outage("the service refuses the reports of this worker: %s", error)
            return _AFTER_REFUSAL_S
        except ServiceUnavailableError as error:
            self._note_outage("the service does not take the reports of this worker: %s", error)
        except Exception as error:  # noqa: BLE001 - a worker does its jobs without reports too
            self._note_outage("this worker cannot be reported: %r", error)
        else:
            if self._is_out:
                self._is_out = False
                _log.info("the service takes the reports of this worker again")
            if has_changed:
                return 0
        return self._interval_s

    def _take(self, answer: Mapping[str, Any]) -> bool:
        """Do what the service says; True if that is news, which it wants to see confirmed."""
        self._interval_s = min(max(float(answer["intervalS"]), _SHORTEST_S), _LONGEST_S)
        is_shut = bool(answer["drain"])
        if is_shut == self._gate.is_shut:
            return False
        _log.info("the service %s this worker", "drains" if is_shut else "no longer drains")
        self._gate.is_shut = is_shut
        return True

    async def _take_leave(self, service: LifecycleService, session: aiohttp.ClientSession) -> None:
        try:
            content = self._content() | {"leaving": True}
            await service.post(session, "report", content, timeout_s=_LAST_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - the service finds out by itself, a little later
            _log.debug("the last report of this worker was lost: %r", error)

    def _content(self) -> dict[str, Any]:
        self._number += 1
        server = self._server
        jobs = job_fields(server)
        return {
            "workerId": self._id,
            "number": self._number,
            "livekitId": server.id,
            "agentNames": [str(getattr(server, "_agent_name", ""))],
            "deployment": os.environ.get(DEPLOYMENT_VARIABLE, ""),
            "version": self._version,
            "helper": _helper_version(),
            "slots": self._gate.slots,
            "jobs": jobs,
            "warm": sum(job["roomName"].startswith(_WARM_PREFIX) for job in jobs),
            "load": round(self._gate.load, 3),
            "accepting": self._gate.accepts,
            "draining": self._gate.is_draining,
        }

    def _note_outage(self, message: str, error: Exception) -> None:
        """Log it once for each outage."""
        if not self._is_out:
            self._is_out = True
            _log.warning(message, error)


def _helper_version() -> str:
    try:
        return version("reusable-agent")
    except PackageNotFoundError:
        return ""
