"""Interruption of the command `dev` by Ctrl-C and SIGTERM, never in the middle of starting a process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(BaseException):
    """The first signal arrived; not an Exception, so that no handler treats it as a failure."""


class Interruption:
    """Raises `StopRequested` at the first signal; a second signal ends everything at once."""

    def __init__(self) -> None:
        self._deferring = False
        self._pending = False
        self._at_second: Callable[[], None] = lambda: None
        self._seen = False

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def at_second(self, kill: Callable[[], None]) -> None:
        """Set what a second signal does before the process exits with 1."""
        self._at_second = kill

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal: a process that is being started must be known before it can be stopped."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            self._pending = False
            raise StopRequested

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._seen:
            self._at_second()
            os._exit(1)
        self._seen = True
        if self._deferring:
            self._pending = True
        else:
            raise StopRequested
