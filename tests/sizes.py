"""How long the dearest groups of tests go on: as CI has it, or with TEST_SIZE=long as a night has it.

In either size every kind of fault, kill and step occurs; the long one only repeats them more often.
TEST_SIZE=short is for the other Pythons, which run what the newest one has shown to be right.
"""

import os
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Sizes:
    #: Services killed under load, with one service on SQLite and with two replicas on Postgres.
    kills: int
    kills_of_replicas: int
    #: Worlds of the simulation, the steps in each at most, and in all of them at least.
    worlds: int
    steps: int
    steps_in_all: int
    #: Requests made up for each endpoint.
    requests: int
    #: How long LiveKit's webhooks are lost.
    without_webhooks_s: float
    #: In how many moments somebody walks away while the page connects.
    moments: int
    #: How often each of four rooms is asked for while LiveKit flaps.
    calls_while_flapping: int


CI = Sizes(
    kills=6,
    kills_of_replicas=7,
    worlds=55,
    steps=60,
    steps_in_all=2_700,
    requests=30,
    without_webhooks_s=20,
    moments=8,
    calls_while_flapping=3,
)
LONG = Sizes(
    kills=12,
    kills_of_replicas=12,
    worlds=220,
    steps=60,
    steps_in_all=10_000,
    requests=100,
    without_webhooks_s=60,
    moments=20,
    calls_while_flapping=6,
)
SHORT = replace(CI, worlds=8, steps_in_all=300, requests=5)
_BY_NAME = {"short": SHORT, "ci": CI, "long": LONG}


def _chosen() -> Sizes:
    size = os.environ.get("TEST_SIZE", "ci")
    if size not in _BY_NAME:
        raise ValueError(f"TEST_SIZE is {size!r}; it may be {', '.join(_BY_NAME)}")
    return _BY_NAME[size]


SIZES = _chosen()
