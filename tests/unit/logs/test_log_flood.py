"""100,000 log calls from several threads in real time, read by another process."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fakes.log import most_in_a_printed_second, most_in_a_second
from fakes.log_flood import CALLS, ERROR_EVERY, LIMIT

ROOT = Path(__file__).parents[3]


def test_a_flood_from_several_threads_stays_within_the_limit_and_is_counted() -> None:
    ended = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(ROOT / "tests" / "fakes" / "log_flood.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    counts = json.loads(ended.stderr)

    assert len(counts["moments"]) == len(lines)
    assert most_in_a_second(counts["moments"]) <= LIMIT
    assert most_in_a_printed_second(lines) <= LIMIT
    errors = [line["number"] for line in lines if line["level"] == "error"]
    assert sorted(errors) == list(range(0, CALLS, ERROR_EVERY))
    *own, summary = lines
    assert Counter(line["level"] for line in own) == counts["written"]
    assert (summary["written"], summary["dropped"]) == (counts["written"], counts["dropped"])
    assert sum(counts["written"].values()) + sum(counts["dropped"].values()) == CALLS
