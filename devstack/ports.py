"""Free ports on the loopback interface."""

import functools
import itertools
import os
import random
import socket
from collections.abc import Iterator, Sequence

LOOPBACK = "127.0.0.1"

#: Below the ports that systems use for outgoing connections (32768 and up on Linux, 49152 elsewhere): any
#: connection could take one of those while its server is being restarted.
_RANGE = range(20_000, 32_000)
_TRIES = 100
#: The processes of one test run, at most.
_SLICES = 8


def free_port(preferred: int = 0) -> int:
    """A free TCP port; `preferred` if it is free."""
    return _free(socket.SOCK_STREAM, preferred)


def free_udp_port() -> int:
    return _free(socket.SOCK_DGRAM)


def own_ports(worker: str | None) -> Sequence[int]:
    """The ports of one process of a test run, by pytest-xdist's name for it (`gw0`); None: all of them.

    A server takes its port a second after that was found to be free, and does without it while it is being
    restarted: in the meantime another process must not find it free too.
    """
    if worker is None:
        return _RANGE
    return _RANGE[int(worker.removeprefix("gw")) % _SLICES :: _SLICES]


@functools.cache
def _one_after_the_other(worker: str | None) -> Iterator[int]:
    """Each of them once, and then again: for the same reason."""
    ports = own_ports(worker)
    return itertools.cycle(random.sample(ports, len(ports)))


def _free(kind: socket.SocketKind, preferred: int = 0) -> int:
    others = itertools.islice(_one_after_the_other(os.environ.get("PYTEST_XDIST_WORKER")), _TRIES)
    for port in itertools.chain([preferred] if preferred else [], others):
        with socket.socket(type=kind) as probe:
            if kind is socket.SOCK_STREAM:
                # Like servers, so that a port in TIME_WAIT counts as free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError("no free port on the loopback interface")
