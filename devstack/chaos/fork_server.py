"""A fork server: forks services and workers from a process with all imports done, in a tenth of the time.

Each forked process runs the same program as one that is started. Only Python's imports, in which a kill can
break nothing, run once instead of five hundred times.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
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
#: The modules that a service imports until it is ready.
SERVICE = (
    "alembic.command",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "app.__main__",
)
#: The modules that a worker imports.
WORKER = ("devstack.counting_llm", "livekit.agents.cli", "livekit.rtc", "reusable_agent")


class ForkServer:
    """`spawn` forks a process for a command of the form `python -m module argument ...`."""

    def __init__(self, folder: Path, imports: Sequence[str] = SERVICE) -> None:
        """`imports`: what the forked modules need; their own code runs anew in each process."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_START_TIMEOUT_S)
        self._lock = threading.Lock()
        self._running: set[int] = set()
        #: Exit codes, by process id.
        self._ended: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        with theirs, (folder / "fork_server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "devstack.chaos.fork_server", str(theirs.fileno()), *imports],
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
            while (started := self._receive(_START_TIMEOUT_S)) is None:
                pass
        return _Forked(started, self)

    def close(self) -> None:
        """End the fork server and every running process that it has started."""
        self._socket.close()
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def exit_code(self, pid: int, wait_s: float) -> int | None:
        """None while it runs."""
        with self._lock:
            while pid not in self._ended:
                try:
                    self._receive(wait_s)
                except (BlockingIOError, TimeoutError):
                    return None
            return self._ended[pid]

    def _receive(self, wait_s: float) -> int | None:
        """Receive one message; return the id of a process that has started, None for one that has ended."""
        self._socket.settimeout(wait_s)
        message = json.loads(self._socket.recv(_MESSAGE_BYTES) or b"{}")
        if "started" in message:
            started = int(message["started"])
            # The system reuses ids: this is not the process that has ended.
            self._ended.pop(started, None)
            self._running.add(started)
            return started
        if "ended" not in message:
            raise ConnectionResetError("the fork server has died")
        self._ended[message["ended"]] = message["code"]
        self._running.discard(message["ended"])
        return None


class _Forked:
    def __init__(self, pid: int, fork_server: ForkServer) -> None:
        self.pid = pid
        self._fork_server = fork_server

    def poll(self) -> int | None:
        return self._fork_server.exit_code(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._fork_server.exit_code(self.pid, _START_TIMEOUT_S if timeout is None else timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked service", timeout or _START_TIMEOUT_S)
        return code

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def _serve(channel: socket.socket, imports: Sequence[str]) -> None:
    """Import everything, then fork for each message until the other end is closed."""
    for name in imports:
        importlib.import_module(name)
    # Each fork runs it anew; runpy would warn that it has run already.
    sys.modules.pop("app.__main__", None)
    # By a descriptor: a signal that comes just before a blocking call would run its handler after that call.
    ends, signals = socket.socketpair()
    signals.setblocking(False)
    signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        readable, _, _ = select.select([channel, ends], [], [])
        if ends in readable:
            ends.recv(_MESSAGE_BYTES)
            _reap(channel)
        if channel in readable:
            request = channel.recv(_MESSAGE_BYTES)
            if not request:
                return
            if os.fork() == 0:
                signal.set_wakeup_fd(-1)
                ends.close()
                signals.close()
                _run_module(channel, json.loads(request))


def _reap(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        channel.send(json.dumps({"ended": pid, "code": code}).encode())


def _run_module(channel: socket.socket, request: dict[str, object]) -> None:
    """Run one service or worker in the forked process; never returns."""
    code: int | str | None = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(str(request["log"]), os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        env = request["env"]
        assert isinstance(env, dict)  # noqa: S101 - this module's own message
        os.environ.clear()
        os.environ.update(env)
        arguments = request["arguments"]
        assert isinstance(arguments, list)  # noqa: S101 - this module's own message
        sys.argv = arguments
        # From here on it can be killed as a group.
        channel.send(json.dumps({"started": os.getpid()}).encode())
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
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
