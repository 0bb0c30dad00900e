"""The environment of a chaos run: a LiveKit, a worker, and services to kill."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from livekit import api

from devstack.chaos.fork_server import ForkServer
from devstack.chaos.options import Options
from devstack.chaos.webhook_relay import LossyRelay
from devstack.livekit_build import find_or_build
from devstack.livekit_server import LiveKitServer
from devstack.ports import free_port
from devstack.processes import popen
from devstack.service import Service
from devstack.workers import Worker


class Environment:
    """All processes of the run; `async with` starts them and leaves nothing behind."""

    def __init__(self, options: Options, database_url: str) -> None:
        folder: Path = options.folder
        port = free_port()
        self.relay = LossyRelay(
            port,
            self._webhook_urls,
            options.rng("webhooks"),
            lost=options.lost_webhooks,
        )
        self.server = LiveKitServer(find_or_build(), folder, webhook_urls=[self.relay.url])
        self.worker = Worker(self.server, folder, agent_name=options.agent_name)
        env = {
            "DATABASE_URL": database_url,
            "AGENT_TTL_SECONDS": str(options.ttl_s),
            "CLEANUP_INTERVAL_MS": str(options.interval_ms),
        }
        if options.warm:
            policies = folder / "agents.toml"
            # The pool is to be used again at once, however many were taken.
            refill = "warm_refill_per_minute = 600"
            policies.write_text(f'[agents."{options.agent_name}"]\nwarm = {options.warm}\n{refill}\n')
            env["AGENTS_FILE"] = str(policies)
        self._fork_server = None if options.cold else ForkServer(folder)
        spawn = self._fork_server.spawn if self._fork_server else popen
        self.services = [
            Service(
                self.server,
                folder,
                agent_name=options.agent_name,
                env=env,
                name=f"service-{number}",
                spawn=spawn,
            )
            for number in range(options.database.replicas)
        ]
        self._api: api.LiveKitAPI | None = None

    @property
    def api(self) -> api.LiveKitAPI:
        if self._api is None:
            raise RuntimeError("the environment was not opened")
        return self._api

    async def __aenter__(self) -> Self:
        try:
            await self.relay.start()
            self.server.launch()
            await asyncio.to_thread(self.server.wait_until_ready)
            self.worker.start(wait=False)
            for service in self.services:
                service.launch()
            for service in self.services:
                await asyncio.to_thread(service.wait_until_ready)
            await asyncio.to_thread(self.worker.wait_until_registered)
            server = self.server
            self._api = api.LiveKitAPI(server.http_url, server.api_key, server.api_secret)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._api:
            await self._api.aclose()
        for service in self.services:
            service.kill()
        if self._fork_server:
            self._fork_server.close()
        await asyncio.to_thread(self.worker.stop)
        self.server.kill()
        await self.relay.stop()

    def _webhook_urls(self) -> Sequence[str]:
        return [service.webhook_url for service in self.services if service.child.running]
