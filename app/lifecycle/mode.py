"""The modes of a rollout: how much the service does on its own."""

from enum import StrEnum

from app.lifecycle import EndReason, Event


class Mode(StrEnum):
    OBSERVE = "observe"  #: tracks only; every call creates a new agent, as without the service
    REUSE = "reuse"  #: also reuses, replaces and restarts agents; ends none on its own
    ENFORCE = "enforce"  #: also ends agents at their TTL and removes duplicates

    @property
    def keeps_one(self) -> bool:
        """Whether agents are reused, replaced and restarted."""
        return self is not Mode.OBSERVE

    @property
    def ends(self) -> bool:
        """Whether the service ends agents whose end nobody requested."""
        return self is Mode.ENFORCE

    @property
    def withheld_events(self) -> frozenset[Event]:
        """The deadlines on which the service does not act."""
        ends = {Event.TTL_EXPIRED, Event.SESSION_OVER, Event.WARNING_DUE}
        withheld = set() if self.ends else ends
        if not self.keeps_one:
            withheld |= {Event.JOIN_OVERDUE, Event.RETRY_DUE}
        return frozenset(withheld)

    def withholds_removal(self, reason: EndReason | None) -> bool:
        """Whether a dispatch that ends for this reason ends in the tables only, not in LiveKit."""
        is_wanted = reason in (EndReason.REQUESTED, EndReason.ON_HOLD)
        return not self.keeps_one and not is_wanted
