"""Tasks that go on by themselves: how they end when the service does."""

import asyncio
from collections.abc import Collection
from typing import Any


async def wind_up(tasks: Collection[asyncio.Task[Any]], grace_s: float) -> None:
    """Let them finish within the grace; what is left then is cancelled, and found by its row's deadline."""
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
