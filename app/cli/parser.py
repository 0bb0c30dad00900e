"""The command line: which commands there are, what they are told, and what their exit codes mean."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.cli import commands
from app.cli.commands import Command
from app.cli.doctor import checks
from app.config.environment import between, parse_database_url, web_url

T = TypeVar("T")

#: A parser of one command: name, what runs it, summary, description, epilog.
_Add = Callable[[str, Command, str, str, str], argparse.ArgumentParser]

_DESCRIPTION = "Keeps exactly one LiveKit agent that answers in every room where people want one."

_EPILOG = """\
The environment is the configuration; LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET and AGENT_NAME are
required. README.md lists every variable.

exit codes: 0 done, or stopped as asked; 1 could not run; 2 the environment or the command line is wrong
"""

_DOCTOR_DESCRIPTION = """\
Looks at everything that is commonly wrong, in order, and says of each fault how to mend it. It reads the same
environment as the service; run it where the service runs, beside it or before it is started.

It changes nothing that stays. In LiveKit it opens rooms named doctor-..., one for each agent name, dispatches
the agent there, and deletes them. To the database it writes in a transaction that it takes back. With
PUBLIC_URL set it sends the service there one webhook, of a kind that is ignored.

checks: {checks}
"""

_DOCTOR_EPILOG = """\
exit codes: 0 no faults; 1 there are faults; 2 the command line is wrong; 130, 143 interrupted, with its rooms
deleted
"""

_STATUS_DESCRIPTION = """\
Prints a running service's readiness, and a table of its agents: who is in, how long until the TTL is over.
"""

_STATUS_EPILOG = (
    "exit codes: 0 it is ready; 1 it is not, or it cannot be asked; 2 the command line is wrong\n"
)

_BACKUP_DESCRIPTION = """\
Copies the SQLite file of a service, running or not, into one file that is whole by itself. A copy of the file
alone, made by other means while the service runs, lacks its newest commits or is torn. Postgres has pg_dump.
"""

_RESTORE_DESCRIPTION = """\
Puts a backup in the place of the SQLite file, and keeps what was there as FILE.replaced. Stop the service
before: over a running one it is refused. The backup may be of any age; what happened since is read from
LiveKit at the start.
"""

_COPY_DESCRIPTION = """\
Copies everything that the service knows into another database, from SQLite to Postgres for example: running
agents, their deadlines, presence and history. The source is left as it is, the target has to be empty.

Stop the service before, and start it with DATABASE_URL set to the target after. What happens in between is
read from LiveKit at that start; a TTL that has passed meanwhile is acted on at once.
"""

_DONE_EPILOG = """\
exit codes: 0 done; 1 refused, or failed, and nothing was changed; 2 the command line is wrong
"""

_WAIT_S = 15


def command_line(environ: Mapping[str, str], serve: Command) -> argparse.ArgumentParser:
    """Each command leaves in `run` what carries it out; without a command that is `serve`."""
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=serve)
    add = partial(_add, parser.add_subparsers(metavar="command"))
    add("serve", serve, "run the service; the default", _DESCRIPTION, _EPILOG)
    _add_doctor(add)
    _add_status(add, environ)
    _add_backup(add)
    _add_restore(add)
    _add_copy_database(add, environ)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Command,
    summary: str,
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_doctor(add: _Add) -> None:
    names = checks.NAMES
    description = _DOCTOR_DESCRIPTION.format(checks=", ".join(names))
    summary = "look for what is wrong, and say how to mend it"
    parser = add("doctor", commands.doctor, summary, description, _DOCTOR_EPILOG)
    parser.add_argument("--json", action="store_true", help="everything as one JSON object, at the end")
    parser.add_argument(
        "--skip", action="append", default=[], choices=names, metavar="CHECK", help="may be given repeatedly"
    )
    parser.add_argument(
        "--wait",
        type=_argument(between(1, 600)),
        default=_WAIT_S,
        metavar="SECONDS",
        help="for an agent to join (default: %(default)s)",
    )


def _add_status(add: _Add, environ: Mapping[str, str]) -> None:
    parser = add(
        "status", commands.status, "show a running service's agents", _STATUS_DESCRIPTION, _STATUS_EPILOG
    )
    parser.add_argument(
        "--url",
        type=_argument(web_url),
        default=f"http://127.0.0.1:{environ.get('PORT') or 8080}",
        help="of the service (default: %(default)s)",
    )
    first_key = environ.get("API_KEYS", "").partition(",")[0].strip()
    parser.add_argument(
        "--api-key",
        default=first_key,
        metavar="KEY",
        help="one of the service's API_KEYS; default: the first of $API_KEYS, where other processes "
        "cannot read it",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def _add_backup(add: _Add) -> None:
    summary = "copy the SQLite file, while it is in use"
    parser = add("backup", commands.backup, summary, _BACKUP_DESCRIPTION, _DONE_EPILOG)
    parser.add_argument(
        "--to", dest="target", required=True, metavar="FILE", type=Path, help="must not exist"
    )


def _add_restore(add: _Add) -> None:
    parser = add("restore", commands.restore, "put a backup back", _RESTORE_DESCRIPTION, _DONE_EPILOG)
    parser.add_argument("--from", dest="source", required=True, metavar="FILE", type=Path)


def _add_copy_database(add: _Add, environ: Mapping[str, str]) -> None:
    summary = "copy one database into another, running TTLs included"
    parser = add("copy-database", commands.copy_database, summary, _COPY_DESCRIPTION, _DONE_EPILOG)
    read = _argument(parse_database_url)
    parser.add_argument("--from", dest="source", required=True, metavar="URL", type=read)
    parser.add_argument(
        "--to",
        dest="target",
        required="DATABASE_URL" not in environ,
        default=environ.get("DATABASE_URL"),
        metavar="URL",
        type=read,
        help="default: $DATABASE_URL, where other processes cannot read its password",
    )


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A setting's reader for argparse, which would hide what a ValueError says."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
