"""`agent-lifecycle`, or `python -m app`: the service, or another command."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import closing

from aiohttp import web

from app.cli.parser import command_line
from app.clock import Clock, SteadyClock
from app.config.settings import Config, ConfigError, load_config
from app.database.migrations import MigrationError
from app.errors import ServiceError
from app.logs.aggregation import Aggregation
from app.logs.counts import LogCounts
from app.logs.redaction import RecordCleaner, Redaction
from app.logs.setup import configure_logging, prepare_process
from app.tracing.interface import Tracing
from app.tracing.opening import opened_tracing
from app.web.app import create_app
from app.web.keys import SERVICE
from app.web.listener import GIVE_UP_AFTER_S, listen

logger = logging.getLogger("app")

#: Platforms kill a process 10 s after they ask it to stop. A disk that hangs must not let it come to that.
_STOP_LIMIT_S = 9.0
#: For requests under way, which are given up before. `app.service` has the rest of the 10 s of platforms.
_SHUTDOWN_TIMEOUT_S = GIVE_UP_AFTER_S + 0.5


def main() -> int:
    chosen = command_line(os.environ, _run_service).parse_args()
    exit_code: int = chosen.run(chosen, os.environ)
    return exit_code


def _run_service(_given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        config = load_config(environ)
    except ConfigError as error:
        sys.stderr.write("The configuration is invalid:\n")
        sys.stderr.writelines(f"  {problem}\n" for problem in error.problems)
        return 2
    clock = SteadyClock()
    log = configure_logging(
        config.log_level,
        rate_limit=config.log_rate_limit,
        aggregation=Aggregation() if config.log_aggregation else None,
        cleaner=RecordCleaner(
            config.secrets, Redaction(config.livekit_key.secret) if config.log_redact else None
        ),
        clock=clock,
    )
    prepare_process()
    with closing(log):
        return _run(config, clock, log.counts)


def _run(config: Config, clock: Clock, log_counts: LogCounts) -> int:
    for warning in config.warnings:
        logger.warning("Unknown setting", extra={"action": "config", "reason": warning})
    try:
        with opened_tracing(config, clock) as tracing:
            asyncio.run(_serve(config, clock, log_counts, tracing))
    except ConfigError as error:
        logger.critical("The service cannot start", extra={"action": "start", "reason": str(error)})
        return 2
    except (MigrationError, ServiceError, OSError) as error:
        logger.critical("The service cannot start", extra={"action": "start", "reason": str(error)})
        return 1
    except Exception:
        logger.critical("Unexpected error in the service", exc_info=True, extra={"action": "start"})
        return 1
    return 0


async def _serve(config: Config, clock: Clock, log_counts: LogCounts, tracing: Tracing | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _begin_stop, stop)
    reload = asyncio.Event()
    if config.agents_file:
        # From here on, since a signal without a handler would end the process while it starts.
        loop.add_signal_handler(signal.SIGHUP, reload.set)
    app = create_app(config, clock=clock, log_counts=log_counts, tracing=tracing)
    # aiohttp's own access log costs more than most requests; ours is a middleware.
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=False,
        shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
    )
    await runner.setup()
    app[SERVICE].reloader.follow(reload)
    try:
        with closing(await listen(runner, config.host, config.port)):
            settle_memory()
            logger.info("Listening", extra={"action": "start", "host": config.host, "port": config.port})
            await stop.wait()
            logger.info("Stopping", extra={"action": "stop"})
    finally:
        await runner.cleanup()


def _begin_stop(stop: asyncio.Event) -> None:
    """From the signal on, also while the service still starts, the limit runs."""
    stop.set()
    limit = threading.Timer(_STOP_LIMIT_S, _exit_at_once)
    limit.daemon = True
    limit.start()


def _exit_at_once() -> None:
    """For a stop that hangs. Nothing is lost: what is not done has a deadline in the database."""
    sys.stderr.write(
        f"The service did not stop within {_STOP_LIMIT_S} s and exits now; the next start resumes its work\n"
    )
    sys.stderr.flush()
    os._exit(1)


def settle_memory() -> None:
    """Exclude from garbage collection what the process keeps; call it once all of that is there.

    Otherwise the collector stops everything for 50 ms every few thousand webhooks, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


if __name__ == "__main__":
    sys.exit(main())
