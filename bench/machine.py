"""CPU cores of the measurements: servers on one, load generators on the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = frozenset(_CORES[:1])
ALL_CORES = frozenset(_CORES)
#: The same core if there is only one.
LOAD_CORES = frozenset(_CORES[1:] or _CORES)


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started in the block run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
