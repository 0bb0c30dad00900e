"""The checks of the doctor, in order: each may need earlier ones to pass."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass

import aiohttp

from app.cli.doctor.context import CheckContext
from app.cli.doctor.database import check_database, check_migrations, check_sharing
from app.cli.doctor.delivery import check_delivery
from app.cli.doctor.disk import check_disk
from app.cli.doctor.environment import check_environment, problems
from app.cli.doctor.findings import Finding, Findings, Verdict, fault, skipped
from app.cli.doctor.livekit import (
    check_clock,
    check_features,
    check_keys,
    check_livekit,
    check_rooms,
)
from app.cli.doctor.network import check_browsers, check_port, check_webhook
from app.cli.doctor.worker import check_workers
from app.clock import Clock
from app.config.settings import ConfigError, load_config
from app.errors import ServiceError
from app.livekit.client import LiveKitClient


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[CheckContext], Findings]
    #: If one of these has a fault, this check would only find its symptom.
    needs: tuple[str, ...] = ()


CHECKS = (
    Check("environment", check_environment),
    Check("livekit", check_livekit),
    Check("clock", check_clock, needs=("livekit",)),
    Check("keys", check_keys, needs=("livekit", "clock")),
    Check("features", check_features, needs=("keys",)),
    Check("browsers", check_browsers),
    Check("rooms", check_rooms, needs=("keys",)),
    Check("database", check_database),
    Check("sharing", check_sharing),
    Check("disk", check_disk),
    Check("migrations", check_migrations, needs=("database",)),
    Check("port", check_port),
    Check("webhook", check_webhook),
    Check("delivery", check_delivery, needs=("keys", "webhook")),
    Check("worker", check_workers, needs=("keys",)),
)
NAMES = tuple(check.name for check in CHECKS)


async def examine(
    environ: Mapping[str, str], clock: Clock, *, skip: Collection[str] = (), wait_s: float
) -> AsyncIterator[tuple[str, Finding]]:
    """Yield each finding with the name of its check."""
    try:
        config = load_config(environ)
    except ConfigError as error:
        # All other checks need valid settings.
        for finding in problems(error):
            yield CHECKS[0].name, finding
        return
    async with aiohttp.ClientSession() as http:
        context = CheckContext(
            config=config,
            environ=environ,
            http=http,
            livekit=LiveKitClient(http, config.livekit_url, config.livekit_key, clock),
            clock=clock,
            wait_s=wait_s,
        )
        #: By check, the one whose fault must be fixed first.
        causes: dict[str, str] = {}
        for check in CHECKS:
            cause = next((causes[name] for name in check.needs if name in causes), None)
            if check.name in skip:
                yield check.name, skipped("skipped as requested")
            elif cause:
                causes[check.name] = cause
                yield check.name, skipped(f"not checked until {cause} is fixed")
            else:
                async for finding in _run(check, context):
                    if finding.verdict is Verdict.FAULT:
                        causes[check.name] = check.name
                    yield check.name, finding


async def _run(check: Check, context: CheckContext) -> Findings:
    try:
        async for finding in check.run(context):
            yield finding
    except (aiohttp.ClientError, ServiceError, TimeoutError, OSError) as error:
        yield fault(f"the check failed ({type(error).__name__})", "run doctor again")
