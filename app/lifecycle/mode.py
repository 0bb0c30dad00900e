"""The rollout in steps: what the service does by itself, and the count of what it would have done."""

from enum import StrEnum

from app.lifecycle import EndReason, Event


class Mode(StrEnum):
    OBSERVE = "observe"  #: tracks; every call brings a new agent, as it would without the service
    REUSE = "reuse"  #: reuses and replaces when it is asked, and looks after what it made; ends nothing
    ENFORCE = "enforce"  #: ends agents at their TTL, too, and removes what is one too many

    @property
    def keeps_one(self) -> bool:
        """Whether agents are reused, replaced and restarted."""
        return self is not Mode.OBSERVE

    @property
    def ends(self) -> bool:
        """Whether agents that nobody asked to end are ended."""
        return self is Mode.ENFORCE

    @property
    def withheld_events(self) -> frozenset[Event]:
        """The deadlines that pass without anything being done about them."""
        withheld: set[Event] = set() if self.ends else {Event.TTL_EXPIRED}
        if not self.keeps_one:
            withheld |= {Event.JOIN_OVERDUE, Event.RETRY_DUE}
        return frozenset(withheld)

    def withholds_removal(self, reason: EndReason | None) -> bool:
        """Whether a dispatch that ends for this reason only ends in the tables, and not in LiveKit."""
        return not self.keeps_one and reason is not EndReason.REQUESTED
