"""A watchdog for the worker: restarts it when it dies by itself, because the run does not test the worker.

The `livekit` package ends its whole process when a job is ended while its agent connects ("timed out waiting
for ReadyForRoomEventRequest"). Jobs are threads here, so the worker dies with all its agents.
"""

import asyncio
import time

from devstack.chaos.report import Report
from devstack.workers import Worker

_POLL_S = 0.25
#: LiveKit notices a lost agent after about 21 s; then the service dispatches another one.
_NOTICED_S = 30.0


async def keep_running(worker: Worker, report: Report) -> None:
    while True:
        await asyncio.sleep(_POLL_S)
        if worker.child.running:
            continue
        report.counts["worker deaths"] += 1
        report.lenient_until = time.monotonic() + _NOTICED_S
        await asyncio.to_thread(worker.start)
        report.lenient_until = time.monotonic() + _NOTICED_S
