"""How the garbage collector is set in a process that runs for months, with thousands of webhooks a second."""

import gc


def settle_memory() -> None:
    """To be called once the process has all that it keeps: the collector looks through it never again.

    Else it stops everything for 50 ms every few thousand webhooks, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
