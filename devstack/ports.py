"""Free ports on the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"

#: Below the ports that systems use for outgoing connections (32768 and up on Linux, 49152 elsewhere): any
#: connection could take one of those while its server is being restarted.
_RANGE = range(20_000, 32_000)
_TRIES = 100


def free_port(preferred: int = 0) -> int:
    """A free TCP port; `preferred` if it is free."""
    return _free(socket.SOCK_STREAM, preferred)


def free_udp_port() -> int:
    return _free(socket.SOCK_DGRAM)


def _free(kind: socket.SocketKind, preferred: int = 0) -> int:
    candidates = [preferred] if preferred else []
    candidates += random.sample(_RANGE, _TRIES)
    for port in candidates:
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
