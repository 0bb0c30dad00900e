"""Warnings and errors from a child's log."""

import json
import re
from typing import Any

from devstack.processes import Child

_IMPORTANT = re.compile(r"\b(WARN|WARNING|ERROR|CRITICAL|FATAL|Traceback|panic)\b")
_LEVELS = frozenset({"WARN", "WARNING", "ERROR", "CRITICAL", "FATAL"})
# The media engine inside a worker logs an error for every room that is deleted during a job.
_NOISY_LOGGERS = frozenset({"livekit"})


class Follower:
    """Reads a child's log incrementally, from its start."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._read = 0

    def important_lines(self) -> list[str]:
        """The important lines since the last call, as `name: text`; a JSON line is reduced to its message."""
        output = self._child.output()
        end = output.rfind("\n") + 1
        fresh, self._read = output[self._read : end], max(end, self._read)
        shown = (_shown(line) for line in fresh.splitlines())
        return [f"{self._child.name}: {line}" for line in shown if line]


def _shown(line: str) -> str | None:
    record = _record(line)
    if record is None:
        return line if _IMPORTANT.search(line) else None
    if record.get("name") in _NOISY_LOGGERS:
        return None
    level = str(record.get("level", "")).upper()
    return f"{level} {record.get('message') or record.get('event') or line}" if level in _LEVELS else None


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
