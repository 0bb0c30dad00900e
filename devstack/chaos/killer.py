"""The killer: kills services at random instants, during a request, during a start, or at any time."""

import asyncio
import random
import time
from http import HTTPStatus

import aiohttp

from devstack.chaos.load import Load
from devstack.chaos.report import Report
from devstack.service import Service

_READY_WITHIN_S = 30.0
_POLL_S = 0.05
#: A request takes some ten milliseconds, an agent's removal some hundred.
_AIM_S = 0.12
_ASKED_WITHIN_S = 3.0
_LONGEST_LIFE_S = 1.5
#: For a warm start; most of a cold start is imports, in which nothing happens.
_LONGEST_START_S = 0.4
_KILLED = -9


class Killer:
    def __init__(self, services: list[Service], load: Load, report: Report, rng: random.Random) -> None:
        self._services = services
        self._load = load
        self._report = report
        self._rng = rng
        self._launched = dict.fromkeys((service.child.name for service in services), 0.0)

    async def kill_one(self) -> None:
        """Wait for the next instant, kill, and restart what was killed."""
        draw = self._rng.random()
        victims = [self._rng.choice(self._services)]
        if draw < 0.25:  # noqa: PLR2004 - one in four dies before it is ready
            how = "in a start"
            victims = [max(self._services, key=lambda service: self._launched[service.child.name])]
            await asyncio.sleep(self._rng.uniform(0, _LONGEST_START_S))
        else:
            await self.all_ready()
            if draw < 0.7:  # noqa: PLR2004 - nearly half during a request
                how = "in a request"
                await self._next_request()
                await asyncio.sleep(self._rng.uniform(0, _AIM_S))
            else:
                how = "at any time"
                await asyncio.sleep(self._rng.uniform(0, _LONGEST_LIFE_S))
        if len(self._services) > 1 and self._rng.random() < 0.1:  # noqa: PLR2004 - a power cut, now and then
            victims, how = self._services, f"{how}, all at once"
        for service in victims:
            self._check_alive(service)
            service.kill()
        self._report.kills[how] += 1
        for service in victims:
            self._launch(service)

    async def all_ready(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for service in self._services:
                await self._ready(session, service)

    async def _ready(self, session: aiohttp.ClientSession, service: Service) -> None:
        began = self._launched[service.child.name] or time.monotonic()
        while not await _is_ready(session, service):
            if not service.child.running:
                self._check_alive(service)
                self._launch(service)
            if time.monotonic() - began > _READY_WITHIN_S:
                detail = f"{service.child.name} is not ready {_READY_WITHIN_S:g} s after its start"
                self._report.violate("not ready", "", detail)
                return
            await asyncio.sleep(_POLL_S)
        if self._launched[service.child.name]:
            self._report.took("start", time.monotonic() - began)
            self._launched[service.child.name] = 0.0

    async def _next_request(self) -> None:
        self._load.asked.clear()
        try:
            await asyncio.wait_for(self._load.asked.wait(), _ASKED_WITHIN_S)
        except TimeoutError:
            return

    def _check_alive(self, service: Service) -> None:
        code = service.child.exit_code
        if code not in (None, _KILLED):
            log = service.child.log_file
            detail = f"{service.child.name} ended with {code}, see {log}: {service.child.tail(3)[-400:]}"
            self._report.violate("a service ended by itself", "", detail)

    def _launch(self, service: Service) -> None:
        service.launch()
        self._launched[service.child.name] = time.monotonic()


async def _is_ready(session: aiohttp.ClientSession, service: Service) -> bool:
    try:
        async with session.get(f"{service.base_url}/readyz") as answer:
            return answer.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError):
        return False
