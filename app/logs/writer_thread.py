"""The writer thread, which alone waits for the output."""

import os
import select
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TextIO

from app.logs.pipeline import Output, Pipeline

_REPORT_EVERY_S = 1.0
#: Within a second there is room again for the last reports.
_LAST_REPORTS_TRIES, _LAST_REPORTS_PAUSE_S = 24, 0.05
_STOP_PATIENCE_S = 3.0


class OutputThread:
    """Writes what is sent, and lets the pipeline report in time when nothing is logged."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` may block; OSError and ValueError mean that the bytes are lost."""
        self._write = write
        # Reentrant, unlike Queue: a finalizer may log while this thread is inside it.
        self._queue: SimpleQueue[Output | None] = SimpleQueue()
        self._paused = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, pipeline: Pipeline) -> None:
        # A daemon, since a blocked output must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(pipeline,), name="log", daemon=True)
        self._thread.start()

    def send(self, output: Output) -> None:
        self._queue.put(output)

    def close(self) -> None:
        """Write what was sent and the last reports; give up if the output is blocked."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_STOP_PATIENCE_S)
            self._thread = None

    def _run(self, pipeline: Pipeline) -> None:
        while True:
            try:
                output = self._queue.get(timeout=_REPORT_EVERY_S)
            except Empty:
                pipeline.report()
                continue
            if output is None:
                break
            self._finish(pipeline, output)
        for _ in range(_LAST_REPORTS_TRIES):
            is_complete = pipeline.report_rest()
            while not self._queue.empty():
                if output := self._queue.get():
                    self._finish(pipeline, output)
            if is_complete:
                return
            self._paused.wait(_LAST_REPORTS_PAUSE_S)

    def _finish(self, pipeline: Pipeline, output: Output) -> None:
        try:
            self._write(output.text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            # Nobody reads it, it is closed, or the disk is full: there is nowhere to report it.
            pipeline.finish(output, has_left=False)
        else:
            pipeline.finish(output, has_left=True)


def writer_to(stream: TextIO) -> Callable[[bytes], None]:
    """Bypasses the stream's own buffer and lock, which a blocked thread would hold at the exit."""
    stream.flush()
    try:
        stream.fileno()
    except OSError:
        return partial(_write_text, stream)
    return partial(_write_bytes, stream)


def _write_text(stream: TextIO, data: bytes) -> None:
    stream.write(data.decode())
    stream.flush()


def _write_bytes(stream: TextIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(stream.fileno(), left) :]
        except BlockingIOError:
            # Another process has made the pipe that we share with it non-blocking.
            select.select([], [stream], [])
