"""`python -m devstack.chaos`: kill services for minutes or hours, and report what was survived."""

import argparse
import random
import sys
from pathlib import Path

from devstack.chaos.options import Database, Options
from devstack.chaos.storm import run

_EPILOG = """\
It runs a real livekit-server, a real worker, people and callers on the loopback interface, and kills the
service (two replicas on Postgres) with SIGKILL, again and again. Every few kills it lets all come to rest and
compares with what LiveKit says: at most one agent in a room and one that answers where people are, nothing
that the table does not know, every acknowledged webhook stored, every dispatch ended in time, no agent taken
from people. The seed fixes what is done, not how the processes interleave.

exit codes: 0 all promises held, 1 one was broken (the report says which, and where the logs are)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devstack.chaos",
        description="Kill the service at random instants under load, and judge it by LiveKit's truth.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--kills", type=int, default=500, help="how many (default: %(default)s)")
    add("--minutes", type=float, default=30, help="and for how long at most (default: %(default)s)")
    add("--seed", type=int, help="of the random choices (default: a new one)")
    add(
        "--database",
        type=Database,
        choices=list(Database),
        default=Database.SQLITE,
        help="sqlite: one service; postgres: two replicas (default: %(default)s)",
    )
    add("--check-every", type=int, default=12, help="kills between two checks (default: %(default)s)")
    add("--lose", type=float, default=0.0, help="the share of webhooks to lose (default: none)")
    add("--cold", action="store_true", help="start each service as a new Python, not as a fork of a warm one")
    add("--data-dir", type=Path, help="logs, and SQLite's file (default: data/chaos/<database>-<seed>)")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 1_000_000) if given.seed is None else given.seed
    folder = given.data_dir or Path("data/chaos") / f"{given.database}-{seed}"
    options = Options(
        kills=given.kills,
        minutes=given.minutes,
        seed=seed,
        database=given.database,
        check_every=given.check_every,
        lost_webhooks=given.lose,
        cold=given.cold,
        folder=folder.resolve(),
    )
    print(f"seed {seed}; logs and database in {options.folder}", flush=True)
    report = run(options, say=lambda line: print(line, flush=True))
    (options.folder / "report.txt").write_text(report.text() + "\n")
    print(report.text(), flush=True)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
