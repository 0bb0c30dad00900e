"""Whether the service may be sent traffic, and why not."""

import asyncio
import logging

import msgspec

from app.control.reconciler import Reconciler
from app.database.store import Store
from app.errors import LiveKitRefused, ServiceError

logger = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0


class Report(msgspec.Struct, rename="camel", kw_only=True):
    ready: bool
    database: str
    timers: str
    livekit: str


class Readiness:
    """Ready once the timers are restored and LiveKit has answered; from then on the database alone decides.

    Taking the service away does not bring LiveKit back, and its webhooks would find nobody.
    """

    def __init__(self, store: Store, reconciler: Reconciler) -> None:
        self._store = store
        self._reconciler = reconciler
        self._timers_restored = False
        self._livekit_answered = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The timers are restored: read LiveKit's truth, and go on trying until it can be read."""
        self._timers_restored = True
        self._task = asyncio.create_task(self._greet_livekit(), name="first reconcile")

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def report(self) -> Report:
        database = "reachable"
        try:
            await self._store.ping()
        except ServiceError as error:
            database = str(error)
        return Report(
            ready=database == "reachable" and self._timers_restored and self._livekit_answered,
            database=database,
            timers="restored" if self._timers_restored else "not restored yet",
            livekit=self._livekit(),
        )

    def _livekit(self) -> str:
        if self._reconciler.problem:
            return str(self._reconciler.problem)
        return "reachable" if self._livekit_answered else "not asked yet"

    async def _greet_livekit(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await self._reconciler.run()
            except ServiceError as error:
                if isinstance(error, LiveKitRefused):
                    logger.error(  # noqa: TRY400 - the message says it all
                        "LiveKit refuses us: check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
                        extra={"action": "livekit", "code": error.code},
                    )
                else:
                    logger.warning(
                        "LiveKit or the database cannot be asked yet; trying on",
                        extra={"action": "livekit", "code": error.code},
                    )
            else:
                self._livekit_answered = True
                logger.info("LiveKit has answered; the service is ready", extra={"action": "ready"})
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
