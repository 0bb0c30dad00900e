"""The network of a Chromium, cut for real: its own emulation of being offline leaves WebRTC alone."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser

_NETWORK_SERVICE = b"network.mojom.NetworkService"


@asynccontextmanager
async def cut(browser: Browser) -> AsyncIterator[None]:
    """Nothing goes out and nothing comes in: the process that has all of its sockets stands still."""
    session = await browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    await session.detach()
    pids = [process["id"] for process in processes]
    (pid,) = [pid for pid in pids if _NETWORK_SERVICE in _command_line(pid)]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
