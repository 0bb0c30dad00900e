"""Workers of the fake LiveKit that report themselves to the service, as those with the helper do."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from fakes.rooms import FakeWorker
from integration.harness import App, World

_numbers = itertools.count(1)


@dataclass(kw_only=True)
class ReportingWorker:
    """One worker process; it reports when the test says so."""

    world: World
    worker: FakeWorker
    slots: int | None = None
    id: str = field(default_factory=lambda: f"worker-{next(_numbers)}")
    number: int = 0

    @property
    def jobs(self) -> list[dict[str, str]]:
        agents = {agent.identity for _, agent in self.world.livekit.server.agents_of(self.worker)}
        return [
            {"jobId": identity, "dispatchId": dispatch.id, "roomName": room.name}
            for room in self.world.livekit.server.rooms.values()
            for dispatch in room.dispatches.values()
            for identity in dispatch.jobs
            if identity in agents
        ]

    @property
    def content(self) -> dict[str, Any]:
        is_full = self.slots is not None and len(self.jobs) >= self.slots
        return {
            "workerId": self.id,
            "number": self.number,
            "livekitId": "AW_1",
            "agentNames": [self.worker.agent_name],
            "deployment": self.worker.deployment,
            "version": "1.4",
            "helper": "0.1.0",
            "slots": self.slots,
            "jobs": self.jobs,
            "warm": 0,
            "load": 0.25,
            "accepting": self.worker.takes_jobs and not is_full,
            "draining": self.worker.draining,
        }

    async def report(self, app: App, **fields: Any) -> bool:
        """Report to a service, and do what it answers; returns whether the worker is to drain."""
        self.number += 1
        answer = await app.call_as_worker("report", self.content | fields)
        assert answer.status == 200, answer
        assert answer.body["intervalS"] == 1.5
        self.worker.draining = bool(answer.body["drain"])
        return self.worker.draining


async def look(app: App) -> None:
    """One round of the service's watch, with all that it entails; it has no others from now on.

    What one of its own began in the meantime might not have ended when this returns.
    """
    await app.service.fleet_watch.close()
    await app.service.fleet_watch.step()
    await app.settle()


async def known(app: App) -> list[dict[str, Any]]:
    answer = await app.call("GET", "/api/livekit/workers")
    assert answer.status == 200, answer
    workers: list[dict[str, Any]] = answer.body["workers"]
    return workers
