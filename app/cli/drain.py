"""The drain of workers by a running service, over HTTP: the order, and what is left."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec

from app.cli.calls import call, open_session
from app.livekit.answers import read_within
from app.logs.formats import printable
from app.web.workers import WorkerItem, WorkerList

_ROUND_S = 1.0
_ROOMS_SHOWN = 5
_WORKERS = "/api/livekit/workers"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A worker or a deployment; the other is None."""

    worker: str | None
    deployment: str | None

    def includes(self, worker: WorkerItem) -> bool:
        return worker.drain_requested and self.worker in (None, worker.id)

    @property
    def path(self) -> str:
        return f"{_WORKERS}/drain" if self.worker is None else f"{_WORKERS}/{self.worker}/drain"

    @property
    def params(self) -> dict[str, str]:
        return {} if self.deployment is None else {"deployment": self.deployment}


async def drain(
    base_url: str,
    api_key: str,
    target: Target,
    *,
    cancel: bool,
    wait: bool,
    report: Callable[[Sequence[WorkerItem]], None],
) -> None:
    """Order or cancel a drain; with `wait`, return once the workers have nothing left.

    `report` gets the workers that are drained, after the order and after each change.

    Raises:
        CallFailed: the order was not taken.
    """
    async with open_session(base_url, api_key) as session:
        method = "DELETE" if cancel else "POST"
        found = await call(session, method, target.path, WorkerList, params=target.params)
        workers = _drained(found, target)
        report(workers)
        while wait and not cancel and not is_over(workers):
            await asyncio.sleep(_ROUND_S)
            former, workers = workers, _drained(await _ask_again(session), target)
            if _shown(former) != _shown(workers):
                report(workers)


def is_over(workers: Sequence[WorkerItem]) -> bool:
    """Whether every one has heard that it is drained, and has no job; one that has gone has none."""
    return all(worker.draining and not worker.active for worker in workers)


def lines(workers: Sequence[WorkerItem]) -> list[str]:
    if not workers:
        return ["no worker is drained now"]
    return [_line(worker) for worker in workers]


def to_json(workers: Sequence[WorkerItem]) -> str:
    answer = {"workers": workers, "left": sum(worker.active for worker in workers)}
    return msgspec.json.encode(answer).decode()


def _line(worker: WorkerItem) -> str:
    left = worker.left or []
    rooms = ", ".join(
        f"{printable(one.room_name)} ({one.participant_count} in)" for one in left[:_ROOMS_SHOWN]
    )
    more = f" and {len(left) - _ROOMS_SHOWN} more" if len(left) > _ROOMS_SHOWN else ""
    what = f"{worker.active} left" if worker.active else "empty"
    heard = "" if worker.draining else "; it has not heard of it yet"
    named = f"{worker.id} {printable(worker.deployment or '-')} {printable(worker.version or '-')}"
    return f"{named}  {what}{heard}{': ' + rooms + more if rooms else ''}"


def _shown(workers: Sequence[WorkerItem]) -> list[str]:
    return [_line(worker) for worker in workers]


def _drained(found: WorkerList, target: Target) -> list[WorkerItem]:
    workers = [worker for worker in found.workers if target.includes(worker)]
    if target.deployment is None:
        return workers
    return [worker for worker in workers if worker.deployment == target.deployment]


async def _ask_again(session: aiohttp.ClientSession) -> WorkerList:
    """The workers now; while the service does not answer, as at its restart, it is asked again."""
    while True:
        try:
            async with session.get(_WORKERS) as response:
                body = await read_within(response)
                if response.status == HTTPStatus.OK:
                    return msgspec.json.decode(body, type=WorkerList)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
            pass
        await asyncio.sleep(_ROUND_S)
