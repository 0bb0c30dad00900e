"""A short chaos run with `kill -9`; `python -m devstack.chaos` makes a long one."""

from pathlib import Path

import pytest

from devstack.chaos.options import Database, Options
from devstack.chaos.runner import run

pytestmark = pytest.mark.real


@pytest.mark.parametrize("database", list(Database))
async def test_a_dozen_kills_under_load_break_no_promise(database: Database, tmp_path: Path) -> None:
    options = Options(kills=12, minutes=2, seed=2026, database=database, folder=tmp_path)

    report = await run(options)

    print(report.text())  # noqa: T201 - pytest shows it when it fails
    assert report.violations == []
    assert report.killed == 12
    assert report.counts["checks"] == 1
    assert report.counts["webhooks acknowledged"] > 0
