"""Neighbours: other services that dispatch agents of the same names."""

import logging
from collections.abc import Iterable

from app.clock import Clock
from app.control.candidates import AssessedCandidate
from app.livekit.interface import LiveKit

logger = logging.getLogger(__name__)


class Neighbours:
    """Warns once of each agent name that another service dispatches too."""

    def __init__(self, livekit: LiveKit, clock: Clock) -> None:
        self._livekit = livekit
        self._clock = clock
        self._started_at = clock.now()
        self._known: set[str] = set()

    def note(self, agent_name: str, assessed: Iterable[AssessedCandidate]) -> None:
        if agent_name in self._known:
            return
        # An older one may be its own, of a lost database.
        started_at = self._livekit.now() - (self._clock.now() - self._started_at)
        if any(one.is_anothers and one.candidate.since > started_at for one in assessed):
            self._known.add(agent_name)
            logger.warning(
                "Another service dispatches agents of this name; give each service an AGENT_NAME of its own",
                extra={"action": "another_service", "agent": agent_name},
            )
