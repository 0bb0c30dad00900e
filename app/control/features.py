"""Features: what this LiveKit is too old for."""

import logging
from enum import StrEnum

logger = logging.getLogger(__name__)


class Feature(StrEnum):
    PROBE = "probe"  #: an agent can be asked whether it answers (livekit-server 1.9.2)
    ATTRIBUTES = "attributes"  #: a dispatch keeps its attributes, with the row's id (livekit-server 1.13.2)


_SINCE = {Feature.PROBE: "1.9.2", Feature.ATTRIBUTES: "1.13.2"}


class Features:
    """What was found to be missing, each logged once."""

    def __init__(self) -> None:
        self.missing: list[Feature] = []

    def note_missing(self, feature: Feature) -> None:
        if feature in self.missing:
            return
        self.missing.append(feature)
        logger.warning(
            "This LiveKit is too old for a feature; docs/compatibility.md says what is different without it",
            extra={"action": "livekit", "missing": feature, "oldest": _SINCE[feature]},
        )
