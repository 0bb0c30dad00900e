"""The connection of an example worker: a job that is cancelled meanwhile waits for its outcome."""

import asyncio
from typing import cast

import pytest
from livekit.agents import JobContext

from devstack.worker_connection import connect


class Context:
    """The one method that `connect` needs; the test decides its outcome."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        await self.outcome


def started(context: Context) -> asyncio.Task[None]:
    return asyncio.create_task(connect(cast("JobContext", context)))


async def test_it_ends_when_the_room_is_connected() -> None:
    context = Context()
    job = started(context)
    context.outcome.set_result(None)
    await job


async def test_a_failure_to_connect_is_the_jobs() -> None:
    context = Context()
    job = started(context)
    context.outcome.set_exception(RuntimeError("refused"))
    with pytest.raises(RuntimeError, match="refused"):
        await job


@pytest.mark.parametrize("failure", [None, RuntimeError("refused")])
async def test_a_cancelled_job_ends_only_when_the_connection_is_decided(failure: Exception | None) -> None:
    context = Context()
    job = started(context)
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.wait([job], timeout=0.05)
    assert not job.done()
    if failure:
        context.outcome.set_exception(failure)
    else:
        context.outcome.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await job
