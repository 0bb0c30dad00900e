"""Supervised child processes: each has its own process group, a watched log, and a bounded stop."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

_POLL_S = 0.02
_TAIL_LINES = 40


class ChildFailedError(RuntimeError):
    """A child died or missed a deadline; the message ends with the tail of its log."""


class Process(Protocol):
    """The interface of a running process that Child needs; `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


#: Starts a command with an environment and a log, as the leader of its own process group.
Spawn = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Process]


def popen(command: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> Process:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )


class Child:
    """One child process, its log file, and every process it has started itself.

    The child leads a process group. `kill`, `freeze` and `thaw` reach the whole group, like a machine that
    crashes or hangs. `terminate` signals only the leader, like an orchestrator's graceful stop.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        env: Mapping[str, str],
        spawn: Spawn = popen,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._command = list(command)
        self._env = dict(env)
        self._spawn = spawn
        self._process: Process | None = None
        self._group: int | None = None
        self._log: IO[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ChildFailedError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None before the first start and while the child runs; negative if a signal ended it."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        if self.running:
            raise ChildFailedError(f"{self.name} is already running")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._close_log()
        self._log = self.log_file.open("ab")
        self._log_start = self._log.tell()
        self._process = self._spawn(self._command, self._env, self._log)
        self._group = self._process.pid

    def output(self) -> str:
        """The output since the last start."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def tail(self, lines: int = _TAIL_LINES) -> str:
        if not self.log_file.exists():
            return "(no output)"
        return "\n".join(self.output().splitlines()[-lines:]) or "(no output)"

    def wait_until(self, condition: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Return once `condition` holds.

        Raises:
            ChildFailedError: the child died first, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.running:
                raise ChildFailedError(
                    f"{self.name} ended with {self.exit_code} before {what}\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise ChildFailedError(f"{self.name}: no {what} within {timeout_s:g} s\n{self.tail()}")
            time.sleep(_POLL_S)

    def wait_for_line(self, text: str, *, timeout_s: float) -> None:
        self.wait_until(lambda: text in self.output(), what=f"line with {text!r}", timeout_s=timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until the child ends, and return its exit code."""
        if self._process is None:
            raise ChildFailedError(f"{self.name} was not started")
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailedError(f"{self.name} still runs after {timeout_s:g} s\n{self.tail()}") from None

    def terminate(self) -> None:
        """Send SIGTERM to the leader only."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Send SIGINT, like Ctrl-C, to the leader only."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)

    def freeze(self) -> None:
        """Pause the whole group (SIGSTOP)."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """End the whole group at once (SIGKILL)."""
        self._signal_group(signal.SIGKILL)
        self._group = None
        if self._process is not None:
            self._process.wait()
        self._close_log()

    def stop(self, *, grace_s: float = 5.0) -> int | None:
        """Terminate, wait, then kill the rest of the group; returns the leader's exit code."""
        if self._process is None:
            return None
        self.terminate()
        self.thaw()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()
        return self._process.poll()

    def _signal_group(self, number: signal.Signals) -> None:
        # Never after `kill`: the system may reuse the id of an empty group.
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
