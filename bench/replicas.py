"""Replica throughput: webhooks committed by one, two and four replicas on one local Postgres."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.contenders import KEYPAIR, SERVICE
from bench.corpus import write_corpus
from bench.figures import Figure, Unit
from bench.machine import ALL_CORES
from bench.wrk import Load, replay
from devstack.chaos.databases import opened
from devstack.chaos.options import Database

#: More than one replica takes in a second.
_MOST_PER_SECOND = 10_000


def measure(folder: Path, *, counts: Sequence[int], round_s: int) -> list[Figure]:
    """Load, replicas and Postgres share the cores: this shows what the limit is, not how far it scales."""
    rates = [_rate(folder, count, round_s) for count in counts]
    return [
        Figure(
            part="replicas",
            what=f"webhooks committed by {count} on one Postgres",
            value=rate,
            unit=Unit.PER_SECOND,
            reference=f"{counts[0]} alone",
            reference_value=rates[0],
        )
        for count, rate in zip(counts, rates, strict=True)
    ]


def _rate(folder: Path, count: int, round_s: int) -> float:
    corpora = [folder / f"corpus-{number}.txt" for number in range(count)]
    for seed, corpus in enumerate(corpora, 1):
        write_corpus(corpus, _MOST_PER_SECOND * round_s, 1_000, KEYPAIR, seed=seed)
    with ExitStack() as stack:
        url = stack.enter_context(opened(Database.POSTGRES, folder))
        contender = replace(SERVICE, env={**SERVICE.env, "DATABASE_URL": url}, cores=ALL_CORES)
        urls = [stack.enter_context(contender.running(folder)) for _ in corpora]
        pool = stack.enter_context(ThreadPoolExecutor(count))

        def load(number: int) -> Load:
            return replay(urls[number], corpora[number], round_s)

        return sum(one.per_second for one in pool.map(load, range(count)))
