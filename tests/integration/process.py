"""The service and its commands as a process of their own, with a LiveKit that cannot be reached."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from devstack.ports import free_port
from fakes.webhooks import SignedWebhook
from integration.harness import API_KEY, KEYPAIR, WEBHOOK

#: A start imports a good deal, on a machine that may be busy.
_BOUND_S = 60.0

_MODULE = (sys.executable, "-m", "app")

_ENVIRON = {
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": KEYPAIR.key,
    "LIVEKIT_API_SECRET": KEYPAIR.secret,
    "AGENT_NAME": "agent",
    "API_KEYS": API_KEY,
    "HOST": "127.0.0.1",
}


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    process: asyncio.subprocess.Process
    port: int
    session: aiohttp.ClientSession

    @property
    def pid(self) -> int:
        return self.process.pid

    @asynccontextmanager
    async def anew(self) -> AsyncIterator["Running"]:
        """The same service, over connections of their own."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            yield Running(self.process, self.port, session)

    async def deliver(self, webhook: SignedWebhook) -> int:
        headers = {"Authorization": webhook.authorization, "Content-Type": "application/webhook+json"}
        async with self.session.post(WEBHOOK, data=webhook.body, headers=headers) as answer:
            return answer.status

    async def call(
        self, method: str, path: str, body: object = None, *, auth: str = API_KEY
    ) -> tuple[int, str]:
        """The status and the code of the answer; `auth` as a bearer."""
        headers = {"Authorization": f"Bearer {auth}"}
        async with self.session.request(method, path, json=body, headers=headers) as answer:
            return answer.status, (await answer.json()).get("code", "")

    async def get(self, path: str) -> int:
        async with self.session.get(path, headers={"Authorization": f"Bearer {API_KEY}"}) as answer:
            return answer.status


async def run(*arguments: str, program: Sequence[str] = _MODULE, **environ: str) -> Ended:
    """Run it to its end."""
    process = await _start(*arguments, program=program, **environ)
    try:
        async with asyncio.timeout(_BOUND_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def running(program: Sequence[str] = _MODULE, **environ: str) -> AsyncIterator[Running]:
    """The service while it serves; it has to end as asked, if it has not ended before."""
    port = free_port()
    process = await _start(program=program, PORT=str(port), **environ)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_BOUND_S):
            while b"Listening" not in (line := await process.stdout.readline()):
                assert line, "it has ended before it listened"
        reading = asyncio.create_task(process.stdout.read())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Running(process, port, session)
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(_BOUND_S):
                assert await process.wait() == 0
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _start(*arguments: str, program: Sequence[str], **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *program,
        *arguments,
        env=os.environ | _ENVIRON | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if not arguments and "PORT" in environ else asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def silent_livekit() -> AsyncIterator[str]:
    """The URL of one that takes every call and answers none."""
    writers: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for writer in writers:
            writer.close()
