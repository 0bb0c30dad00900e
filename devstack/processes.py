"""A supervised child process: started in a group of its own, watched, and stopped with a bound."""

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
    """A child died, or did not do in time what was waited for; the message ends with its log's tail."""


class Process(Protocol):
    """What a Child needs of a running process; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


#: Starts a command with an environment and a log, as the leader of a process group of its own.
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

    The child leads a process group. `kill`, `freeze` and `thaw` reach the whole group, which is what a
    machine that crashes or hangs looks like from outside; `terminate` asks only the leader, which is
    what an orchestrator's graceful stop looks like.
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
        """None before the first start and while it runs; negative when a signal ended it."""
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
        """What it has written since its last start."""
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
            ChildFailedError: the child died first, or the time is up.
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
        """Wait for its end and give its exit code."""
        if self._process is None:
            raise ChildFailedError(f"{self.name} was not started")
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailedError(f"{self.name} still runs after {timeout_s:g} s\n{self.tail()}") from None

    def terminate(self) -> None:
        """Ask the leader alone to end (SIGTERM)."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ask the leader alone to end as Ctrl-C does (SIGINT)."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)

    def freeze(self) -> None:
        """Stop the whole group where it stands (SIGSTOP)."""
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
        """Ask it to end, wait, then kill what is left of its group; the leader's exit code."""
        if self._process is None:
            return None
        self.terminate()
        self.thaw()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()
        return self._process.poll()

    def _signal_group(self, number: signal.Signals) -> None:
        # Never after `kill`: the id of a group without members is free to become somebody else's.
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
