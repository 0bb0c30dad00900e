"""Command line of the chaos run: `python -m devstack.chaos`."""

import argparse
import asyncio
import random
import sys
from pathlib import Path

from devstack.chaos.options import Database, Options
from devstack.chaos.runner import run

_EPILOG = """\
The run starts a real livekit-server, a real worker, people and callers on the loopback interface, and kills
the service (two replicas on Postgres) with SIGKILL again and again. Every few kills it stops the load and
compares the tables with LiveKit: each room has at most one agent, and one that answers where people are; the
tables know every dispatch and agent; every acknowledged webhook is stored; every dispatch ends in time; no
agent was taken from people. The seed fixes the actions, not how the processes interleave.

exit codes: 0 all promises held, 1 at least one was broken (the report names it and the folder with the logs)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devstack.chaos",
        description="Kill the service at random instants under load, and compare it with LiveKit's state.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--kills", type=int, default=500, help="number of kills (default: %(default)s)")
    add("--minutes", type=float, default=30, help="time limit in minutes (default: %(default)s)")
    add("--seed", type=int, help="seed of the random choices (default: a new one)")
    add(
        "--database",
        type=Database,
        choices=list(Database),
        default=Database.SQLITE,
        help="sqlite: one service; postgres: two replicas (default: %(default)s)",
    )
    add("--check-every", type=int, default=12, help="kills between two checks (default: %(default)s)")
    add("--warm", type=int, default=2, help="number of warm agents that wait (default: %(default)s)")
    add("--lose", type=float, default=0.0, help="share of webhooks to lose (default: none)")
    add("--cold", action="store_true", help="start each service in a new Python, without forking")
    add(
        "--data-dir",
        type=Path,
        help="logs and SQLite file (default: data/chaos/<database>-<seed>)",
    )
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 1_000_000) if given.seed is None else given.seed
    folder = given.data_dir or Path("data/chaos") / f"{given.database}-{seed}"
    options = Options(
        kills=given.kills,
        minutes=given.minutes,
        seed=seed,
        database=given.database,
        check_every=given.check_every,
        warm=given.warm,
        lost_webhooks=given.lose,
        cold=given.cold,
        folder=folder.resolve(),
    )
    print(f"seed {seed}; logs and database in {options.folder}", flush=True)
    report = asyncio.run(run(options, say=lambda line: print(line, flush=True)))
    (options.folder / "report.txt").write_text(report.text() + "\n")
    print(report.text(), flush=True)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
