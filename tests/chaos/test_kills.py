"""A short chaos run with `kill -9`. TEST_SIZE=long is longer; `python -m devstack.chaos` runs for hours."""

from pathlib import Path

import pytest

from devstack.chaos.options import Database, Options
from devstack.chaos.runner import run
from sizes import SIZES

pytestmark = pytest.mark.real


@pytest.mark.parametrize("database", list(Database))
async def test_kills_under_load_break_no_promise(database: Database, tmp_path: Path) -> None:
    kills = SIZES.kills if database is Database.SQLITE else SIZES.kills_of_replicas
    # Of a seed whose first kills are of every kind.
    # With warm agents in the pool of the replicas.
    warm = 0 if database is Database.SQLITE else 2
    options = Options(kills=kills, minutes=2, seed=2001, database=database, folder=tmp_path, warm=warm)

    report = await run(options)

    print(report.text())  # noqa: T201 - pytest shows it when it fails
    assert report.violations == []
    assert report.killed == kills
    assert {how.partition(",")[0] for how in report.kills} == {"in a start", "in a request", "at any time"}
    assert any(how.endswith("all at once") for how in report.kills) is (database is Database.POSTGRES)
    assert report.counts["checks"] == 1
    assert report.counts["webhooks acknowledged"] > 0
    assert (report.counts["warm agents that came"] > 0) is (warm > 0)
