"""Benchmarks: measures every promised figure and its reference, in one run."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench import click, dispatch, ingest, many, replicas, soak
from bench.figures import Figure, render, write_json

Measure = Callable[[Path], list[Figure]]

#: Each part takes less than two minutes, but `click`: about ten.
PARTS: Mapping[str, Measure] = {
    "ingest": partial(ingest.measure, rounds=3, round_s=3),
    "dispatch": dispatch.measure,
    "storm": lambda _folder: many.measure_storm(rounds=3, agents=1_000),
    "restore": lambda _folder: [
        *many.measure_restore(rounds=3, agents=100_000),
        *many.measure_reconcile(rounds=1, agents=10_000),
    ],
    "memory": lambda _folder: many.measure_memory(rounds=1, agents=100_000),
    "growth": lambda _folder: many.measure_growth(rounds=3, few=1_000, many=100_000),
    "timers": lambda _folder: many.measure_timers(rounds=3, agents=100_000),
    "click": click.measure,
    "replicas": partial(replicas.measure, counts=(1, 2, 4), round_s=4),
}
#: These take an hour or more, and run only when they are named.
LONG: Mapping[str, Measure] = {"soak": soak.measure}
#: The same code with small inputs, so that it keeps working; the figures mean nothing.
SMOKE: Mapping[str, Measure] = {
    "ingest": ingest.smoke,
    "storm": lambda _folder: many.measure_storm(rounds=1, agents=20),
    "restore": lambda _folder: [
        *many.measure_restore(rounds=1, agents=100),
        *many.measure_reconcile(rounds=1, agents=50),
    ],
    "memory": lambda _folder: many.measure_memory(rounds=1, agents=100),
    "growth": lambda _folder: many.measure_growth(rounds=1, few=50, many=100),
    "timers": lambda _folder: many.measure_timers(rounds=1, agents=1_000),
    "soak": soak.smoke,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="part",
        help=f"parts to run: {', '.join(PARTS)} (default: all), {', '.join(LONG)} (about an hour)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("bench.json"),
        help="output file (default: %(default)s)",
    )
    parser.add_argument("--smoke", action="store_true", help="only check that it works, in seconds")
    given = parser.parse_args()
    known = {**PARTS, **LONG}
    measures = SMOKE if given.smoke else known
    if unknown := set(given.parts) - known.keys():
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    # As Ctrl-C does: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    figures: list[Figure] = []
    for name in given.parts or (SMOKE if given.smoke else PARTS):
        if name not in measures:
            continue
        began_s = time.monotonic()
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            figures += measures[name](Path(folder))
        print(f"measured {name} in {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    write_json(figures, given.json)
    print(render(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
