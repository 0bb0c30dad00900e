"""Starts services and workers in a tenth of the time: forks a process that has imported what they need.

What runs, and is killed, is the same program as a process of its own; only Python's imports, in which nothing
happens that a kill could break, are done once and not five hundred times.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from devstack.processes import Process

_MESSAGE_BYTES = 256 * 1024
_START_TIMEOUT_S = 60.0
#: What a service imports until it is ready.
SERVICE = (
    "alembic.command",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "app.__main__",
)
#: Likewise a worker.
WORKER = ("devstack.counting_llm", "livekit.agents.cli", "livekit.rtc", "reusable_agent")


class Nursery:
    """`spawn` forks for a command of the form `python -m module argument ...`."""

    def __init__(self, folder: Path, imports: Sequence[str] = SERVICE) -> None:
        """`imports`: what the modules will need; their own code runs anew in each process."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_START_TIMEOUT_S)
        self._lock = threading.Lock()
        self._living: set[int] = set()
        #: Exit codes, by process id.
        self._ended: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        with theirs, (folder / "nursery.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "devstack.chaos.nursery", str(theirs.fileno()), *imports],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def spawn(self, command: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> Process:
        arguments = command[command.index("-m") + 1 :]
        request = {"arguments": list(arguments), "env": dict(env), "log": log.name}
        with self._lock:
            self._socket.send(json.dumps(request).encode())
            while (born := self._hear(_START_TIMEOUT_S)) is None:
                pass
        return _Forked(born, self)

    def close(self) -> None:
        """End it, and whatever lives of what it has started."""
        self._socket.close()
        for pid in self._living:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def exit_code(self, pid: int, wait_s: float) -> int | None:
        """None while it runs."""
        with self._lock:
            while pid not in self._ended:
                try:
                    self._hear(wait_s)
                except (BlockingIOError, TimeoutError):
                    return None
            return self._ended[pid]

    def _hear(self, wait_s: float) -> int | None:
        """Take one message; the id of a process that has begun, None for one that has ended."""
        self._socket.settimeout(wait_s)
        message = json.loads(self._socket.recv(_MESSAGE_BYTES) or b"{}")
        if "born" in message:
            born = int(message["born"])
            # The system gives ids again: this is not the one that has ended.
            self._ended.pop(born, None)
            self._living.add(born)
            return born
        if "ended" not in message:
            raise ConnectionResetError("the nursery has died")
        self._ended[message["ended"]] = message["code"]
        self._living.discard(message["ended"])
        return None


class _Forked:
    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self._nursery = nursery

    def poll(self) -> int | None:
        return self._nursery.exit_code(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._nursery.exit_code(self.pid, _START_TIMEOUT_S if timeout is None else timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked service", timeout or _START_TIMEOUT_S)
        return code

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def _nurse(channel: socket.socket, imports: Sequence[str]) -> None:
    """Import all, then fork for each message until the other end is closed."""
    for name in imports:
        importlib.import_module(name)
    # It is run anew in each fork; runpy would warn that it has run already.
    sys.modules.pop("app.__main__", None)
    signal.signal(signal.SIGCHLD, lambda *_: _bury(channel))
    while request := channel.recv(_MESSAGE_BYTES):
        if os.fork() == 0:
            _live(channel, json.loads(request))


def _bury(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        channel.send(json.dumps({"ended": pid, "code": code}).encode())


def _live(channel: socket.socket, request: dict[str, object]) -> None:
    """The life of one service or worker; never returns."""
    code: int | str | None = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(str(request["log"]), os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        env = request["env"]
        assert isinstance(env, dict)  # noqa: S101 - our own message
        os.environ.clear()
        os.environ.update(env)
        arguments = request["arguments"]
        assert isinstance(arguments, list)  # noqa: S101 - likewise
        sys.argv = arguments
        # From here on it can be killed as a group.
        channel.send(json.dumps({"born": os.getpid()}).encode())
        channel.close()
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _nurse(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
