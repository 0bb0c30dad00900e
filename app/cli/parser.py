"""The command line: the commands, their arguments and their help."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from app.cli import commands
from app.cli.commands import Command
from app.cli.doctor import checks
from app.config.environment import between, parse_database_url, web_url

T = TypeVar("T")

#: argparse's add_parser.
_Add = Callable[..., argparse.ArgumentParser]
_FORM = argparse.RawDescriptionHelpFormatter

_DESCRIPTION = "Keeps exactly one responsive LiveKit agent in every room where people want one."

_EPILOG = """\
The service is configured by environment variables; LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET and
AGENT_NAME are required. docs/configuration.md lists all of them.

exit codes: 0 done, or stopped as asked; 1 could not run; 2 the environment or the command line is invalid
"""

_DOCTOR_DESCRIPTION = """\
Checks for common misconfigurations, in order, and prints a fix for each. It reads the same environment as the
service. Run it where the service runs, before the service is started or while it runs.

It leaves no changes behind. In LiveKit it opens rooms named doctor-..., one for each agent name, dispatches
the agent there, and deletes the rooms. In the database it writes in a transaction that it rolls back. If
PUBLIC_URL is set, it sends one webhook there, of a type that the service ignores.

checks: {checks}
"""

_DOCTOR_EPILOG = """\
exit codes: 0 no faults; 1 faults found; 2 the command line is invalid; 130, 143 interrupted (its rooms are
deleted)
"""

_STATUS_DESCRIPTION = """\
Prints the readiness of a running service and a table of its agents, with the people in each room and the
time until each TTL expires.
"""

_STATUS_EPILOG = (
    "exit codes: 0 the service is ready; 1 it is not ready or not reachable; 2 the command line is invalid\n"
)

_DRAIN_DESCRIPTION = """\
Drains workers that report themselves (reusable_agent.attach): they take no more jobs, and their idle agents
end. Conversations with a memory are handed over to other workers; the others go on. A drained deployment
stays so, for workers that start later too, until --cancel; with --deployment "" it holds for the workers
without a deployment that run now.
"""

_DRAIN_EPILOG = """\
exit codes: 0 ordered; with --wait: the workers have no agents left; 1 the order was not taken; 2 the command
line is invalid; 130 interrupted (the drain goes on)
"""

_EVENTS_DESCRIPTION = """\
Prints where a running service sends its events (EVENT_WEBHOOKS), and the state of each endpoint. With
--replay-after it has events sent again, each with the id that it had: those after that position.
"""

_EVENTS_EPILOG = "exit codes: 0 done; 1 the order was not taken; 2 the command line is invalid\n"

_POLICY_DESCRIPTION = """\
Prints the policy that each agent has with this environment and this AGENTS_FILE, and where each value comes
from. It checks the file before a reload, and needs neither LiveKit nor the database.
"""

_POLICY_EPILOG = "exit codes: 0 done; 2 the environment, AGENTS_FILE or the command line is invalid\n"

_BACKUP_DESCRIPTION = """\
Copies the SQLite database of a service, running or stopped, into one complete file. Do not copy the database
file by other means while the service runs: the copy lacks the newest commits or is corrupt. For Postgres, use
pg_dump.
"""

_RESTORE_DESCRIPTION = """\
Replaces the SQLite file with a backup, and keeps the previous file as FILE.replaced. Stop the service first:
restore fails while it runs. The backup may be of any age; the service reads what happened since from LiveKit
at its start.
"""

_COPY_DESCRIPTION = """\
Copies all data of the service into another database, for example from SQLite to Postgres: running agents,
their deadlines, presence and history. The source is not changed. The target must be empty.

Stop the service first, and afterwards start it with DATABASE_URL set to the target. It then reads what
happened in between from LiveKit, and acts at once on TTLs that have expired.
"""

_DONE_EPILOG = """\
exit codes: 0 done; 1 rejected or failed, and nothing was changed; 2 the command line is invalid
"""

_WAIT_S = 15

#: The console script and the distribution have the same name.
PROGRAM = "agent-lifecycle"


def command_line(environ: Mapping[str, str], serve: Command) -> argparse.ArgumentParser:
    """The parser; its result has the command as `run`, which is `serve` by default."""
    texts: dict[str, Any] = {"description": _DESCRIPTION, "epilog": _EPILOG}
    parser = argparse.ArgumentParser(prog=PROGRAM, formatter_class=_FORM, **texts)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    parser.set_defaults(run=serve)
    add = partial(parser.add_subparsers(metavar="command").add_parser, formatter_class=_FORM)
    add("serve", help="run the service; the default", **texts).set_defaults(run=serve)
    _add_doctor(add)
    _add_status(add, environ)
    _add_drain(add, environ)
    _add_events(add, environ)
    _add_policy(add)
    _add_backup(add)
    _add_restore(add)
    _add_copy_database(add, environ)
    return parser


def _add_doctor(add: _Add) -> None:
    parser = add(
        "doctor",
        help="check for misconfigurations and print a fix for each",
        description=_DOCTOR_DESCRIPTION.format(checks=", ".join(checks.NAMES)),
        epilog=_DOCTOR_EPILOG,
    )
    parser.set_defaults(run=commands.doctor)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=checks.NAMES,
        metavar="CHECK",
        help="skip a check; may be repeated",
    )
    parser.add_argument(
        "--wait",
        type=_argument(between(1, 600)),
        default=_WAIT_S,
        metavar="SECONDS",
        help="how long an agent may take to join (default: %(default)s)",
    )


def _add_status(add: _Add, environ: Mapping[str, str]) -> None:
    summary = "show a running service's agents"
    parser = add("status", help=summary, description=_STATUS_DESCRIPTION, epilog=_STATUS_EPILOG)
    parser.set_defaults(run=commands.status)
    _add_service(parser, environ)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_drain(add: _Add, environ: Mapping[str, str]) -> None:
    summary = "let workers take no more jobs"
    parser = add("drain", help=summary, description=_DRAIN_DESCRIPTION, epilog=_DRAIN_EPILOG)
    parser.set_defaults(run=commands.drain)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--deployment", metavar="NAME", help='all its workers; "": those without one')
    target.add_argument("--worker", metavar="ID", help="one worker, as GET /api/livekit/workers lists it")
    _add_service(parser, environ)
    parser.add_argument("--cancel", action="store_true", help="let them take jobs again")
    parser.add_argument("--wait", action="store_true", help="return once they have no agents left")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each change")


def _add_events(add: _Add, environ: Mapping[str, str]) -> None:
    summary = "show where events are sent, or send them again"
    parser = add("events", help=summary, description=_EVENTS_DESCRIPTION, epilog=_EVENTS_EPILOG)
    parser.set_defaults(run=commands.events)
    _add_service(parser, environ)
    position = _argument(between(0, 10**15 - 1))
    parser.add_argument("--replay-after", type=position, metavar="POSITION", help="send these events again")
    parser.add_argument(
        "--replay-before", type=position, metavar="POSITION", help="where the replay ends; default: now"
    )
    parser.add_argument("--endpoint", metavar="URL", help="replay to this one alone; default: to all")
    parser.add_argument("--json", action="store_true", help="print the endpoints as one JSON object")


def _add_service(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    parser.add_argument(
        "--url",
        type=_argument(web_url),
        default=f"http://127.0.0.1:{environ.get('PORT') or 8080}",
        help="URL of the service (default: %(default)s)",
    )
    parser.add_argument(
        "--api-key",
        default=environ.get("API_KEYS", "").partition(",")[0].strip(),
        metavar="KEY",
        help="one of the service's API_KEYS; default: the first in $API_KEYS, which other processes cannot "
        "read",
    )


def _add_policy(add: _Add) -> None:
    summary = "show each agent's policy and where it comes from"
    parser = add("policy", help=summary, description=_POLICY_DESCRIPTION, epilog=_POLICY_EPILOG)
    parser.set_defaults(run=commands.policy)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_backup(add: _Add) -> None:
    summary = "copy the SQLite database, also while it is in use"
    parser = add("backup", help=summary, description=_BACKUP_DESCRIPTION, epilog=_DONE_EPILOG)
    parser.set_defaults(run=commands.backup)
    parser.add_argument(
        "--to", dest="target", required=True, metavar="FILE", type=Path, help="new file; must not exist"
    )


def _add_restore(add: _Add) -> None:
    summary = "replace the SQLite database with a backup"
    parser = add("restore", help=summary, description=_RESTORE_DESCRIPTION, epilog=_DONE_EPILOG)
    parser.set_defaults(run=commands.restore)
    parser.add_argument("--from", dest="source", required=True, metavar="FILE", type=Path, help="the backup")


def _add_copy_database(add: _Add, environ: Mapping[str, str]) -> None:
    summary = "copy all data into another database, including running TTLs"
    parser = add("copy-database", help=summary, description=_COPY_DESCRIPTION, epilog=_DONE_EPILOG)
    parser.set_defaults(run=commands.copy_database)
    read = _argument(parse_database_url)
    parser.add_argument("--from", dest="source", required=True, metavar="URL", type=read)
    parser.add_argument(
        "--to",
        dest="target",
        required="DATABASE_URL" not in environ,
        default=environ.get("DATABASE_URL"),
        metavar="URL",
        type=read,
        help="default: $DATABASE_URL, whose password other processes cannot read",
    )


def _version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(its files were copied, not installed: no version is known)"


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A setting's parser for argparse, which would hide the message of a ValueError."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
