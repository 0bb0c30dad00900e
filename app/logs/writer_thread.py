"""The way out of the process: a thread that waits for the output, so that nobody else has to."""

import os
import select
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TextIO

from app.logs.pipeline import Output, Pipeline

_REPORT_EVERY_S = 1.0
#: In a second there is room again for what is left to say.
_LAST_WORDS_TRIES, _LAST_WORDS_PAUSE_S = 24, 0.05
_STOP_PATIENCE_S = 3.0


class OutputThread:
    """Writes what is sent, and has the pipe report on time although nothing is logged."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` may wait; OSError and ValueError mean that the bytes are lost."""
        self._write = write
        # Reentrant, unlike Queue: a finalizer may log while this thread is inside it.
        self._queue: SimpleQueue[Output | None] = SimpleQueue()
        self._paused = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, pipeline: Pipeline) -> None:
        # A daemon, since an output that takes nothing must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(pipeline,), name="log", daemon=True)
        self._thread.start()

    def send(self, output: Output) -> None:
        self._queue.put(output)

    def close(self) -> None:
        """Write what was sent before, and the last reports; give up on an output that takes nothing."""
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
        for _ in range(_LAST_WORDS_TRIES):
            is_all_said = pipeline.report_rest()
            while not self._queue.empty():
                if output := self._queue.get():
                    self._finish(pipeline, output)
            if is_all_said:
                return
            self._paused.wait(_LAST_WORDS_PAUSE_S)

    def _finish(self, pipeline: Pipeline, output: Output) -> None:
        try:
            self._write(output.text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            # Nobody reads any more, it is closed, or the disk is full. Where could that be said?
            pipeline.finish(output, has_left=False)
        else:
            pipeline.finish(output, has_left=True)


def writer_to(stream: TextIO) -> Callable[[bytes], None]:
    """Writes past the stream's own buffer and lock, which a thread that waits would hold at the exit."""
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
