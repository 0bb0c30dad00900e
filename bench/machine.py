"""Which core does what: servers on one and those who load them on the other, in nobody's way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = frozenset(_CORES[:1])
ALL_CORES = frozenset(_CORES)
#: The same one where there is only one.
LOAD_CORES = frozenset(_CORES[1:] or _CORES)


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Whatever process is started in the block runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
