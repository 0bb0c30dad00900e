"""A process that logs far more than it may, from several threads: the log's own limit at its own output."""

import json
import logging
import os
import sys
import threading
import time
from typing import Any

from app.logs.setup import configure_logging, prepare_process

LIMIT, CALLS, THREADS = 200, 100_000, 4
CHATTER = (logging.DEBUG, logging.INFO, logging.WARNING)
#: In more than one second, or there is only one to look at.
SPAN_S, PACE_EVERY = 2.0, 1_000
#: So few that they fit into what the others leave to them.
ERROR_EVERY = 4_000


def flood(first: int) -> None:
    logger = logging.getLogger("flood")
    began_s = time.monotonic()
    for number in range(first, CALLS, THREADS):
        if number % ERROR_EVERY == 0:
            logger.error("An error", extra={"number": number})
        else:
            logger.log(CHATTER[number % len(CHATTER)], "Chatter", extra={"number": number})
        if number % PACE_EVERY == first:
            time.sleep(max(0.0, began_s + SPAN_S * number / CALLS - time.monotonic()))


def note_writes() -> list[int]:
    """When each line leaves the process, which is later than it was let through: microseconds."""
    moments: list[int] = []
    write = os.write

    def write_and_note(file: int, data: Any) -> int:
        moments.extend([time.monotonic_ns() // 1_000] * bytes(data).count(b"\n"))
        return write(file, data)

    os.write = write_and_note
    return moments


def main() -> None:
    moments = note_writes()
    log = configure_logging("DEBUG", rate_limit=LIMIT)
    prepare_process()
    threads = [threading.Thread(target=flood, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    counts = {"written": log.counts.written, "dropped": log.counts.dropped, "moments": moments}
    json.dump(counts, sys.stderr)


if __name__ == "__main__":
    main()
