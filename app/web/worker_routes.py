"""The endpoints about workers; a part of the route table."""

from app.errors import NotFound
from app.web import schemas, workers
from app.web.endpoints import Access, AnyEndpoint, Endpoint


def worker_endpoints() -> tuple[AnyEndpoint, ...]:
    return (
        Endpoint(
            method="POST",
            path="/api/livekit/worker/report",
            access=Access.WORKER,
            summary="Take the report of a worker, and tell it whether to go on taking jobs",
            handler=workers.take_report,
            body=workers.WorkerReport,
            body_limit=workers.REPORT_BYTES,
            answer=workers.ReportAnswer,
        ),
        Endpoint(
            method="GET",
            path="/api/livekit/workers",
            access=Access.OPERATOR,
            summary="List the workers that report themselves; of draining ones, what is left",
            handler=workers.list_workers,
            query=schemas.NoQuery,
            answer=workers.WorkerList,
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/workers/{worker_id}/drain",
            access=Access.OPERATOR,
            summary="Drain a worker: it takes no more jobs, and its idle agents end",
            handler=workers.drain_worker,
            query=schemas.NoQuery,
            answer=workers.WorkerList,
            errors=(NotFound,),
        ),
        Endpoint(
            method="DELETE",
            path="/api/livekit/workers/{worker_id}/drain",
            access=Access.OPERATOR,
            summary="Cancel the drain of a worker; also succeeds when there is none",
            handler=workers.undrain_worker,
            query=schemas.NoQuery,
            answer=workers.WorkerList,
        ),
        Endpoint(
            method="POST",
            path="/api/livekit/workers/drain",
            access=Access.OPERATOR,
            summary="Drain the workers of a deployment, those that come later included",
            handler=workers.drain_deployment,
            query=workers.DeploymentQuery,
            answer=workers.WorkerList,
        ),
        Endpoint(
            method="DELETE",
            path="/api/livekit/workers/drain",
            access=Access.OPERATOR,
            summary="Cancel the drain of a deployment; also succeeds when there is none",
            handler=workers.undrain_deployment,
            query=workers.DeploymentQuery,
            answer=workers.WorkerList,
        ),
    )
