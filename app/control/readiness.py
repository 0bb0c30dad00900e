"""Readiness: whether the service can take traffic, and if not, why."""

import logging
from contextlib import suppress

import msgspec
import stamina

from app.control.features import Feature, Features
from app.control.reconciler import Reconciler
from app.database.store import Store
from app.database.write_outage import WriteOutage
from app.errors import LiveKitRefused, ServiceError
from app.livekit.interface import LiveKit
from app.tasks import BackgroundLoop

logger = logging.getLogger(__name__)


class Report(msgspec.Struct, rename="camel", kw_only=True):
    ready: bool
    database: str
    timers: str
    livekit: str
    #: What this LiveKit is too old for.
    missing: list[str]


class Readiness:
    """Ready once the timers are restored and a reconcile has succeeded, whoever ran it.

    After that the database alone decides: taking the service out of traffic does not bring LiveKit back, and
    would lose its webhooks.
    """

    def __init__(
        self,
        livekit: LiveKit,
        store: Store,
        outage: WriteOutage,
        reconciler: Reconciler,
        features: Features,
    ) -> None:
        self._livekit = livekit
        self._features = features
        self._store = store
        self._outage = outage
        self._reconciler = reconciler
        self._timers_restored = False
        self._loop = BackgroundLoop("first reconcile")

    def start(self) -> None:
        """To call once the timers are restored. Runs the first reconcile, and retries until it succeeds."""
        self._timers_restored = True
        self._loop.start(self._await_livekit)

    async def close(self) -> None:
        await self._loop.close()

    async def report(self) -> Report:
        database = self._outage.problem or "reachable"
        try:
            await self._store.ping()
        except ServiceError as error:
            database = str(error)
        return Report(
            ready=database == "reachable" and self._timers_restored and self._reconciler.has_succeeded,
            database=database,
            timers="restored" if self._timers_restored else "not restored yet",
            livekit=self._state_of_livekit(),
            missing=[*self._features.missing],
        )

    def _state_of_livekit(self) -> str:
        if self._reconciler.problem:
            return str(self._reconciler.problem)
        return "reachable" if self._reconciler.has_succeeded else "not contacted yet"

    async def _await_livekit(self) -> None:
        async for attempt in stamina.retry_context(
            on=ServiceError, attempts=None, timeout=None, wait_initial=0.5, wait_max=10, wait_jitter=0
        ):
            with attempt:
                await self._try_livekit()
        logger.info("LiveKit has answered; the service is ready", extra={"action": "ready"})
        with suppress(ServiceError):
            await self._find_missing()

    async def _find_missing(self) -> None:
        if not await self._livekit.can_probe():
            self._features.note_missing(Feature.PROBE)

    async def _try_livekit(self) -> None:
        if self._reconciler.has_succeeded:
            # A sweep came first.
            return
        try:
            await self._reconciler.run()
        except LiveKitRefused as error:
            logger.error(  # noqa: TRY400 - a traceback adds nothing
                "LiveKit rejected the credentials: check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
                extra={"action": "livekit", "code": error.code, "reason": str(error)},
            )
            raise
        except ServiceError as error:
            logger.warning(
                "LiveKit or the database is not reachable yet; retrying",
                extra={"action": "livekit", "code": error.code, "reason": str(error)},
            )
            raise
