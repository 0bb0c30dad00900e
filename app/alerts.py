"""Alerts: when each is raised and when it is over. Pure: figures and a time in, news out."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that an operator has to look at."""

    #: One of a known few, the same in the log, the metric, the post and docs/operations.md.
    name: str
    #: What is the matter, in one sentence, with figures and without names.
    summary: str
    #: What to do about it; may have several lines.
    advice: str
    since_at: int


class Alerts:
    def __init__(self) -> None:
        self._raised: dict[str, Alert] = {}

    def current(self) -> tuple[Alert, ...]:
        """What is the matter now, oldest first."""
        return tuple(sorted(self._raised.values(), key=lambda alert: alert.since_at))
