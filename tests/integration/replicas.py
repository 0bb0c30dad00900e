"""Replicas: services beside each other on one database, each of which may die."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.lifecycle import SECOND_US, Policy
from fakes.faults import UNREACHABLE, FailBefore
from fakes.livekit import FakeLiveKit
from integration.harness import App, World

LEASE_S = Policy.lease_us // SECOND_US


@dataclass(frozen=True)
class Replica:
    """One service process, with its own connections to LiveKit and to the database."""

    app: App
    world: World

    @property
    def livekit(self) -> FakeLiveKit:
        return self.world.livekit

    def die(self) -> None:
        """As `kill -9`: nothing that it does has an effect any more."""
        self.livekit.faults.everywhere(FailBefore(UNREACHABLE))
        self.world.database_faults.down = True
        self.app.service.timers.stop()


@dataclass(frozen=True)
class Death:
    """The replica dies at this call; `acted`: after LiveKit has executed it."""

    replica: Replica
    acted: bool

    async def before(self) -> None:
        if not self.acted:
            await self._die()

    async def after(self) -> None:
        await self._die()

    async def _die(self) -> None:
        self.replica.die()
        raise UNREACHABLE


StartReplica = Callable[..., Awaitable[Replica]]
