"""`python -m app`: the service, configured by the environment alone; or another command."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping

from aiohttp import web

from app.command_line import command_line
from app.config import Config, ConfigError, load_config
from app.errors import ServiceError
from app.logs import configure_logging
from app.migrate import MigrationError
from app.web import create_app

logger = logging.getLogger("app")

#: For requests under way; with the effects' grace it stays within the 10 s that platforms give.
_SHUTDOWN_TIMEOUT_S = 4


def main() -> int:
    chosen = command_line(os.environ, _run_service).parse_args()
    exit_code: int = chosen.run(chosen, os.environ)
    return exit_code


def _run_service(_given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        config = load_config(environ)
    except ConfigError as error:
        sys.stderr.write("The service is not configured:\n")
        sys.stderr.writelines(f"  {problem}\n" for problem in error.problems)
        return 2
    configure_logging(config.log_level)
    for warning in config.warnings:
        logger.warning("%s", warning, extra={"action": "config"})
    try:
        asyncio.run(_serve(config))
    except (MigrationError, ServiceError, OSError) as error:
        logger.critical("The service cannot start: %s", error, extra={"action": "start"})
        return 1
    return 0


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # The access log costs more than most requests; what matters is logged where it happens.
    runner = web.AppRunner(
        create_app(config),
        access_log=None,
        handler_cancellation=False,
        shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
        logger.info("Listening", extra={"action": "start", "host": config.host, "port": config.port})
        await stop.wait()
        logger.info("Stopping", extra={"action": "stop"})
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
