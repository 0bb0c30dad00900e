"""The commands other than serve; each returns its exit code."""

import argparse
import asyncio
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from app.cli import drain as drains
from app.cli import events as event_calls
from app.cli import policy as policies
from app.cli.calls import CallFailed
from app.cli.doctor import checks, report
from app.cli.doctor.findings import Finding, Verdict
from app.cli.status import StatusUnknown, ask, table, to_json
from app.clock import SteadyClock
from app.config.environment import sqlite_path
from app.config.settings import ConfigError, database_url, load_config
from app.database import backup as backups
from app.database.migrations import MigrationError
from app.database.transfer import TransferRefused, told, transfer
from app.errors import ServiceError
from app.logs.setup import configure_logging
from app.web.workers import WorkerItem

_KEYLESS = """\
This command needs an API key: set API_KEYS for the service and here, or pass --api-key.
To make a new key: python -c "import secrets; print(secrets.token_urlsafe(24))"
"""

Environ = Mapping[str, str]
Command = Callable[[argparse.Namespace, Environ], int]

_COPIED = """\
Next: set DATABASE_URL to the new database and start the service. Keep the old database until the new one has
proved itself, but do not start a service on it: it would act on the same rooms.
"""


class Terminal:
    """Writes lines to a stream: coloured on a TTY, plain ASCII otherwise."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream = stream
        is_utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        #: Colour, and signs beyond ASCII. See no-color.org.
        self.is_rich = stream.isatty() and is_utf8 and not environ.get("NO_COLOR")

    def write(self, line: str) -> None:
        text = line if self.is_rich else line.encode("ascii", "backslashreplace").decode()
        self._stream.write(f"{text}\n")
        self._stream.flush()


def doctor(given: argparse.Namespace, environ: Environ) -> int:
    configure_logging("CRITICAL", sys.stderr)
    try:
        return asyncio.run(_examine(given, environ))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


async def _examine(given: argparse.Namespace, environ: Environ) -> int:
    this = asyncio.current_task()
    if this:
        # Like Ctrl-C: rooms that were opened in LiveKit are deleted.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    terminal = Terminal(sys.stdout, environ)
    found: list[tuple[str, Finding]] = []
    async for check, finding in checks.examine(environ, SteadyClock(), skip=given.skip, wait_s=given.wait):
        found.append((check, finding))
        if not given.json:
            terminal.write(report.line(check, finding, colour=terminal.is_rich))
    verdicts = [finding.verdict for _, finding in found]
    terminal.write(report.to_json(found) if given.json else f"\n{report.summary(verdicts)}")
    return 1 if Verdict.FAULT in verdicts else 0


def status(given: argparse.Namespace, environ: Environ) -> int:
    if not given.api_key:
        sys.stderr.write(_KEYLESS)
        return 2
    try:
        answer = asyncio.run(ask(given.url, given.api_key))
    except StatusUnknown as error:
        sys.stderr.write(f"{error}\n")
        return 1
    terminal = Terminal(sys.stdout, environ)
    for line in [to_json(answer)] if given.json else table(answer, datetime.now(UTC)):
        terminal.write(line)
    return 0 if answer.service.ready else 1


def drain(given: argparse.Namespace, environ: Environ) -> int:
    if not given.api_key:
        sys.stderr.write(_KEYLESS)
        return 2
    terminal = Terminal(sys.stdout, environ)

    def show(workers: Sequence[WorkerItem]) -> None:
        for line in [drains.to_json(workers)] if given.json else drains.lines(workers):
            terminal.write(line)

    target = drains.Target(worker=given.worker, deployment=given.deployment)
    work = drains.drain(given.url, given.api_key, target, cancel=given.cancel, wait=given.wait, report=show)
    try:
        asyncio.run(work)
    except CallFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        # The order stands.
        return 128 + signal.SIGINT
    return 0


def events(given: argparse.Namespace, environ: Environ) -> int:
    if not given.api_key:
        sys.stderr.write(_KEYLESS)
        return 2
    if given.replay_after is None and (given.endpoint or given.replay_before is not None):
        sys.stderr.write("--endpoint and --replay-before need --replay-after: where the replay begins\n")
        return 2
    try:
        if given.replay_after is not None:
            count = asyncio.run(
                event_calls.replay(
                    given.url, given.api_key, given.endpoint, given.replay_after, given.replay_before
                )
            )
            sys.stdout.write(f"Deliveries queued: {count}\n")
            return 0
        items = asyncio.run(event_calls.endpoints(given.url, given.api_key))
    except CallFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    terminal = Terminal(sys.stdout, environ)
    for line in [event_calls.to_json(items)] if given.json else event_calls.table(items):
        terminal.write(line)
    return 0


def policy(given: argparse.Namespace, environ: Environ) -> int:
    try:
        config = load_config(environ)
    except ConfigError as error:
        sys.stderr.write("The configuration is invalid:\n")
        sys.stderr.writelines(f"  {problem}\n" for problem in error.problems)
        return 2
    terminal = Terminal(sys.stdout, environ)
    for line in [policies.to_json(config)] if given.json else policies.table(config):
        terminal.write(line)
    return 0


def backup(given: argparse.Namespace, environ: Environ) -> int:
    try:
        size = backups.back_up(_database_file(environ), given.target)
    except (backups.BackupRefused, sqlite3.Error, OSError) as error:
        sys.stderr.write(f"Backup failed: {error}\n")
        return 1
    sys.stdout.write(
        f"Backed up to {given.target}: {size} bytes, with everything committed until now, and verified.\n"
    )
    return 0


def restore(given: argparse.Namespace, environ: Environ) -> int:
    try:
        database = _database_file(environ)
        replaced = backups.restore(given.source, database)
    except (backups.BackupRefused, sqlite3.Error, OSError) as error:
        sys.stderr.write(f"Restore failed, nothing was changed: {error}\n")
        return 1
    kept = f" The previous database is kept as {replaced}." if replaced else ""
    sys.stdout.write(f"Restored {database} from {given.source}.{kept} Start the service now.\n")
    return 0


def copy_database(given: argparse.Namespace, _environ: Environ) -> int:
    configure_logging("WARNING", sys.stderr)
    try:
        rows = asyncio.run(transfer(given.source, given.target))
    except (TransferRefused, MigrationError, ServiceError, OSError) as error:
        sys.stderr.write(f"Copy failed, nothing was copied: {error}\n")
        return 1
    sys.stdout.write("Copied; rows counted in the target:\n")
    sys.stdout.writelines(f"{line}\n" for line in told(rows))
    sys.stdout.write(_COPIED)
    return 0


def _database_file(environ: Environ) -> Path:
    """Raises: BackupRefused: DATABASE_URL is invalid or not a file."""
    try:
        file = sqlite_path(database_url(environ))
    except ValueError as error:
        raise backups.BackupRefused(f"DATABASE_URL {error}") from None
    if file is None:
        raise backups.BackupRefused("DATABASE_URL is Postgres: use pg_dump and pg_restore")
    return file
