"""The cost of a log call, by what happens to its line: `python -m bench.logs`."""

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable

from app.logs.aggregation import Aggregation
from app.logs.setup import LogHandler, configure_logging, prepare_process

_CALLS = 20_000
_ROUNDS = 7
#: For a dropped line: a flood of lines must not slow down its caller.
_GOAL_US = 10.0
_FIELDS = {"action": "request", "room": "lobby", "status": 200}

logger = logging.getLogger("app.bench")


def call_debug() -> None:
    for _ in range(_CALLS):
        logger.debug("A request was answered", extra=_FIELDS)


def call_transition() -> None:
    for _ in range(_CALLS):
        logger.info("A dispatch changed its state", extra={**_FIELDS, "action": "transition"})


def cost_us(call: Callable[[], None]) -> float:
    """The median of the rounds, in CPU time of the calling thread, which other processes do not affect."""
    rounds = []
    for _ in range(_ROUNDS):
        began_s = time.thread_time()
        call()
        rounds.append((time.thread_time() - began_s) / _CALLS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    prepare_process()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device

        def log(level: str, limit: int, aggregation: Aggregation | None = None) -> LogHandler:
            return configure_logging(level, nowhere, rate_limit=limit, aggregation=aggregation)

        log("INFO", 400)
        disabled = cost_us(call_debug)
        logging.basicConfig(level="DEBUG", handlers=[logging.NullHandler()], force=True)
        bare = cost_us(call_debug)
        log("DEBUG", 1)
        dropped = cost_us(call_debug)
        log("INFO", 1)
        dropped_transition = cost_us(call_transition)
        log("DEBUG", 1_000_000, Aggregation())
        aggregated = cost_us(call_debug)
        log("DEBUG", 1_000_000)
        written = cost_us(call_debug)
    for what, us in (
        ("level off", disabled),
        ("Python's logging alone, discarded", bare),
        ("dropped", dropped),
        ("dropped, about a dispatch", dropped_transition),
        ("aggregated", aggregated),
        ("written, or dropped when 10,000 lines wait", written),
    ):
        print(f"{what:<50} {us:6.2f} us  {us / bare:5.2f} x")
    worst = max(dropped, dropped_transition)
    verdict = "met" if worst < _GOAL_US else "NOT met"
    print(f"goal: a dropped line below {_GOAL_US:g} us: {worst:.2f} us, {verdict}")


if __name__ == "__main__":
    main()
