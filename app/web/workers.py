"""Workers over HTTP: their reports, the list of them, and drains."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from app.clock import Time, to_iso
from app.control.workers import KnownWorker
from app.errors import NotFound
from app.state.workers import REPORT_INTERVAL_S, DrainOf, Job, Report
from app.web.keys import SERVICE
from app.web.schemas import NoQuery

#: A worker with that many jobs reports the first ones, and then it is not known what is free.
_MOST_JOBS = 1_000
REPORT_BYTES = 1024 * 1024

_Id = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{8,64}$(?!\n)")]
_Name = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00\ud800-\udfff]*$(?!\n)")]
_Short = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$(?!\n)")]
_Version = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$(?!\n)")]
_Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class JobReport(msgspec.Struct, rename="camel", kw_only=True):
    job_id: _Name
    dispatch_id: _Name
    room_name: _Name


class WorkerReport(msgspec.Struct, rename="camel", kw_only=True):
    """Fields that this version does not know are ignored: a later helper may send more."""

    worker_id: _Id
    #: Grows with each report of the process.
    number: Annotated[int, Meta(ge=0, le=2**62)]
    livekit_id: _Short
    agent_names: Annotated[list[_Name], Meta(min_length=1, max_length=16)]
    deployment: _Name = ""
    version: _Version = ""
    helper: _Short = ""
    slots: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    jobs: Annotated[list[JobReport], Meta(max_length=100_000)] = []
    warm: _Count = 0
    load: Annotated[float, Meta(ge=0, le=1_000_000)] = 0
    accepting: bool
    draining: bool = False
    #: Whether the process ends.
    leaving: bool = False


class ReportAnswer(msgspec.Struct, rename="camel", kw_only=True):
    #: When the next report is expected.
    interval_s: float
    #: Whether the worker is to take no more jobs.
    drain: bool
    success: bool = True


class LeftItem(msgspec.Struct, rename="camel", kw_only=True):
    dispatch_id: str
    room_name: str
    agent_name: str
    state: str
    participant_count: int


class WorkerItem(msgspec.Struct, rename="camel", kw_only=True):
    id: str
    livekit_id: str
    agent_names: list[str]
    deployment: str
    version: str
    helper: str
    state: str
    #: Null: the worker does not say how many jobs it takes.
    slots: int | None
    active: int
    warm: int
    load: float
    accepting: bool
    draining: bool
    #: Whether an operator has ordered it.
    drain_requested: bool
    last_seen: Time
    #: What a draining worker still has; null for others.
    left: list[LeftItem] | None


class WorkerList(msgspec.Struct, rename="camel", kw_only=True):
    workers: list[WorkerItem]
    #: The deployments that are drained; "": workers without one that ran when that was ordered.
    drained_deployments: list[str]


class DeploymentQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    #: "": workers without one.
    deployment: _Name


async def take_report(request: web.Request, report: WorkerReport) -> ReportAnswer:
    jobs = tuple(Job(job.dispatch_id, job.room_name) for job in report.jobs[:_MOST_JOBS])
    drain = await request.app[SERVICE].worker_reports.take(
        Report(
            id=report.worker_id,
            livekit_id=report.livekit_id,
            number=report.number,
            agent_names=tuple(report.agent_names),
            deployment=report.deployment,
            version=report.version,
            helper=report.helper,
            slots=report.slots,
            jobs=jobs,
            active=len(report.jobs),
            warm=report.warm,
            load=report.load,
            accepting=report.accepting,
            draining=report.draining,
            leaving=report.leaving,
        )
    )
    return ReportAnswer(interval_s=REPORT_INTERVAL_S, drain=drain)


async def list_workers(request: web.Request, _query: NoQuery) -> WorkerList:
    return await _listed(request)


async def drain_worker(request: web.Request, _query: NoQuery) -> WorkerList:
    worker_id = request.match_info["worker_id"]
    if not await request.app[SERVICE].workers.drain_worker(worker_id):
        raise NotFound("Worker not found: GET /api/livekit/workers lists those that report themselves")
    return await _listed(request)


async def undrain_worker(request: web.Request, _query: NoQuery) -> WorkerList:
    await request.app[SERVICE].workers.cancel(DrainOf.WORKER, request.match_info["worker_id"])
    return await _listed(request)


async def drain_deployment(request: web.Request, query: DeploymentQuery) -> WorkerList:
    await request.app[SERVICE].workers.drain_deployment(query.deployment)
    return await _listed(request)


async def undrain_deployment(request: web.Request, query: DeploymentQuery) -> WorkerList:
    await request.app[SERVICE].workers.cancel(DrainOf.DEPLOYMENT, query.deployment)
    return await _listed(request)


async def _listed(request: web.Request) -> WorkerList:
    known = await request.app[SERVICE].workers.known()
    return WorkerList(
        workers=[_item(one) for one in known.workers], drained_deployments=list(known.drained_deployments)
    )


def _item(known: KnownWorker) -> WorkerItem:
    worker = known.worker
    return WorkerItem(
        id=worker.id,
        livekit_id=worker.livekit_id,
        agent_names=list(worker.agent_names),
        deployment=worker.deployment,
        version=worker.version,
        helper=worker.helper,
        state=known.state,
        slots=worker.slots,
        active=worker.active,
        warm=worker.warm,
        load=worker.load,
        accepting=worker.accepting,
        draining=worker.draining,
        drain_requested=known.is_drained,
        last_seen=to_iso(worker.seen_at),
        left=None
        if known.left is None
        else [
            LeftItem(
                dispatch_id=dispatch.dispatch_id or dispatch.id,
                room_name=dispatch.room_name,
                agent_name=dispatch.agent_name,
                state=dispatch.state,
                participant_count=dispatch.participant_count,
            )
            for dispatch in known.left
        ],
    )
