"""A process that logs far more than it may, from several threads: the log's own limit at its own output."""

import json
import logging
import sys
import threading

from app.logs import configure_logging, prepare_process

LIMIT, CALLS, THREADS = 200, 100_000, 4
#: So few that they fit into what the others leave to them.
ERROR_EVERY = 4_000


def flood(first: int) -> None:
    logger = logging.getLogger("flood")
    for number in range(first, CALLS, THREADS):
        if number % ERROR_EVERY == 0:
            logger.error("An error", extra={"number": number})
        else:
            logger.debug("Chatter", extra={"number": number})


def main() -> None:
    log = configure_logging("DEBUG", rate_limit=LIMIT)
    prepare_process()
    threads = [threading.Thread(target=flood, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    counts = {"written": log.counts.written, "dropped": log.counts.dropped}
    json.dump(counts, sys.stderr)


if __name__ == "__main__":
    main()
