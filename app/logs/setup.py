"""Logging setup: one handler at the root logger, for other libraries' lines too."""

import logging
import sys
import threading
from typing import TextIO

import stamina

from app.clock import Clock, SteadyClock
from app.logs.aggregation import Aggregation
from app.logs.counts import LogCounts
from app.logs.formats import JsonForm, TextForm
from app.logs.limiter import LogRateLimiter
from app.logs.pipeline import Pipeline
from app.logs.redaction import RecordCleaner
from app.logs.writer_thread import OutputThread, writer_to

logger = logging.getLogger(__name__)


class LogHandler(logging.Handler):
    """The root handler of this process."""

    def __init__(self, pipeline: Pipeline, output: OutputThread) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._output = output
        output.start(pipeline)

    @property
    def counts(self) -> LogCounts:
        return self._pipeline.counts

    def emit(self, record: logging.LogRecord) -> None:
        self._pipeline.take(record)

    def close(self) -> None:
        """Write what is pending. Later records are lost."""
        self._output.close()
        super().close()


def configure_logging(
    level: str,
    stream: TextIO = sys.stdout,
    *,
    rate_limit: int = 0,
    aggregation: Aggregation | None = None,
    cleaner: RecordCleaner | None = None,
    clock: Clock | None = None,
) -> LogHandler:
    """Send everything to `stream`: standard output, since platforms show standard error as errors.

    `rate_limit`: lines in any second; 0: no limit.
    """
    cleaner = cleaner or RecordCleaner()
    output = OutputThread(writer_to(stream))
    form = TextForm(cleaner) if stream.isatty() else JsonForm(cleaner)
    handler = LogHandler(
        Pipeline(form, LogRateLimiter(rate_limit), aggregation, clock or SteadyClock(), output.send), output
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These two log every statement with its parameters at DEBUG.
    for name in ("aiosqlite", "sqlalchemy.engine"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return handler


def prepare_process() -> None:
    """For the service's own process: make calls cheap, and log Python's own warnings and errors."""
    # As logging's manual suggests: no line shows its file or thread, and to find them is half of a call.
    logging._srcfile = None  # noqa: SLF001 - as the manual does
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Otherwise these go to standard error, without the limit and in many lines.
    logging.captureWarnings(True)
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """DEBUG: whoever gives up logs that, and a call that succeeds after all is no news."""
    fields = {"action": "retry", "reason": type(details.caused_by).__name__, "failures": details.retry_num}
    logger.debug("A call failed and is retried", extra=fields)


def _log_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is not SystemExit:
        logger.error(
            "Unhandled exception in a thread", exc_info=failure.exc_value, extra={"action": "thread"}
        )


def _log_unraisable(failure: "sys.UnraisableHookArgs") -> None:
    logger.error("Exception ignored by Python", exc_info=failure.exc_value, extra={"action": "unraisable"})
