"""The user's cache folder, where programs are kept that were built here, and locks between processes."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Report = Callable[[str], None]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agent-lifecycle"


@contextmanager
def only_one(lock_name: str, does: str, report: Report) -> Iterator[None]:
    """No other process of this user is in the block under `lock_name`; `does` describes one that is."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / lock_name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that {does}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
