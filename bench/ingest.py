"""Webhook ingest: rate and latency, compared with other servers."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.contenders import BARE, KEYPAIR, ORM, SERVICE, Contender, express_contenders
from bench.corpus import write_corpus
from bench.figures import Figure, Unit
from bench.steady import steady_latencies_s
from bench.wrk import Load, replay

_PART = "ingest"
#: More than the fastest contender takes in a second.
_MOST_PER_SECOND = 60_000
_WARM_UP_S = 1


def measure(folder: Path, *, rounds: int, round_s: int, rooms: int = 1_000) -> list[Figure]:
    express_map, express_sqlite = express_contenders()
    contenders = (SERVICE, BARE, express_map, express_sqlite, ORM)
    loads = race(contenders, folder, rounds=rounds, round_s=round_s, rooms=rooms)
    rates = {name: statistics.median(load.per_second for load in runs) for name, runs in loads.items()}
    goals = ((BARE, 0.42), (express_map, 1.0), (express_sqlite, None), (ORM, 20.0))
    return [
        *(_against(rates, peer, goal) for peer, goal in goals),
        _steady(folder, rates[SERVICE.name] / 2, seconds=round_s * 2),
    ]


def smoke(folder: Path) -> list[Figure]:
    """The service and the bare server only, for a second each."""
    loads = race((SERVICE, BARE), folder, rounds=1, round_s=1, rooms=100)
    rates = {name: runs[0].per_second for name, runs in loads.items()}
    return [_against(rates, BARE, 0.42), _steady(folder, rates[SERVICE.name] / 2, seconds=1)]


def _against(rates: Mapping[str, float], peer: Contender, goal: float | None) -> Figure:
    return Figure(
        part=_PART,
        what="webhooks committed, 32 connections",
        value=rates[SERVICE.name],
        unit=Unit.PER_SECOND,
        reference=peer.name,
        reference_value=rates[peer.name],
        at_least=goal,
    )


def _steady(folder: Path, per_second: float, *, seconds: int) -> Figure:
    """The latency of webhooks that arrive at an even pace."""
    corpus = folder / "steady.txt"
    write_corpus(corpus, round(per_second * seconds), 1_000, KEYPAIR, seed=3)
    with SERVICE.running(folder) as url:
        latencies_s = steady_latencies_s(url, corpus, per_second, seconds)
    return Figure(
        part=_PART,
        what=f"a webhook's time at half of that, {per_second:,.0f}/s, p99",
        value=latencies_s[round(len(latencies_s) * 0.99) - 1] * 1e3,
        unit=Unit.MS,
        at_most=25,
    )


def race(
    contenders: Sequence[Contender], folder: Path, *, rounds: int, round_s: int, rooms: int
) -> dict[str, list[Load]]:
    """The load that each contender took in each round; in a round they run one after the other."""
    warm_up, corpus = folder / "warm-up.txt", folder / "corpus.txt"
    write_corpus(warm_up, _MOST_PER_SECOND * _WARM_UP_S, rooms, KEYPAIR, seed=2)
    write_corpus(corpus, _MOST_PER_SECOND * round_s, rooms, KEYPAIR, seed=1)
    loads: defaultdict[str, list[Load]] = defaultdict(list)
    for _ in range(rounds):
        for contender in contenders:
            with contender.running(folder) as url:
                replay(url, warm_up, _WARM_UP_S)
                loads[contender.name].append(replay(url, corpus, round_s))
    return loads
