"""`python -m app`: the service, configured by the environment alone; and what is done beside it by hand."""

import argparse
import asyncio
import logging
import os
import signal
import sys

from aiohttp import web

from app.config import Config, ConfigError, load_config
from app.errors import ServiceError
from app.logs import configure_logging
from app.migrate import MigrationError
from app.settings import parse_database_url
from app.transfer import TransferRefused, told, transfer
from app.web import create_app

logger = logging.getLogger("app")

#: For requests under way; with the effects' grace it stays within the 10 s that platforms give.
_SHUTDOWN_TIMEOUT_S = 4

_EPILOG = """\
The environment is the configuration; LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET and AGENT_NAME are
required. README.md lists every variable.

exit codes: 0 stopped as asked, 1 could not run, 2 the environment or the command line is wrong
"""


_COPY_DESCRIPTION = """\
Copies everything that the service knows into another database, from SQLite to Postgres for example: running
agents, their deadlines, presence and history. The source is left as it is, the target has to be empty.

Stop the service before, and start it with DATABASE_URL set to the target after. What happens in between is
read from LiveKit at that start; a TTL that has passed meanwhile is acted on at once.
"""

_COPIED = """\
Next: set DATABASE_URL to the new database and start the service. Keep the old one until you are content with
the new, but start nothing on it any more: it would act on the same rooms.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Keeps exactly one LiveKit agent that answers in every room where people want one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="run the service; the default")
    copying = commands.add_parser(
        "copy-database",
        help="copy one database into another, running TTLs included",
        description=_COPY_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    copying.add_argument("--from", dest="source", required=True, metavar="URL", type=_database_url)
    copying.add_argument(
        "--to",
        dest="target",
        required="DATABASE_URL" not in os.environ,
        default=os.environ.get("DATABASE_URL"),
        metavar="URL",
        type=_database_url,
        help="default: $DATABASE_URL, where other processes cannot read its password",
    )
    chosen = parser.parse_args()
    if chosen.command == "copy-database":
        return _copy_database(chosen.source, chosen.target)
    return _run_service()


def _database_url(text: str) -> str:
    try:
        return parse_database_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _copy_database(source: str, target: str) -> int:
    configure_logging("WARNING", sys.stderr)
    try:
        rows = asyncio.run(transfer(source, target))
    except (TransferRefused, MigrationError, ServiceError, OSError) as error:
        sys.stderr.write(f"Nothing was copied: {error}\n")
        return 1
    sys.stdout.write("Copied, and counted at the target:\n")
    sys.stdout.writelines(f"{line}\n" for line in told(rows))
    sys.stdout.write(_COPIED)
    return 0


def _run_service() -> int:
    try:
        config = load_config(os.environ)
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
