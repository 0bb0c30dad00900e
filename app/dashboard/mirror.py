"""The dispatches that the page shows: live ones and recently ended ones, both bounded."""

from collections.abc import Iterable, Iterator

from app.lifecycle import Dispatch, State

#: More live dispatches than this are counted but not listed.
MAX_LIVE = 10_000
#: Ended dispatches, so that an operator can still look at them.
MAX_ENDED = 50


class Mirror:
    """Accepts dispatches in any order and keeps the newest version of each."""

    def __init__(self) -> None:
        self._live: dict[str, Dispatch] = {}
        #: In the order in which they ended.
        self._ended: dict[str, Dispatch] = {}
        #: The dispatches that changed since the last `drain`.
        self._changed: dict[str, Dispatch] = {}

    def __iter__(self) -> Iterator[Dispatch]:
        yield from self._live.values()
        yield from self._ended.values()

    def apply(self, dispatch: Dispatch) -> None:
        known = self._live.get(dispatch.id) or self._ended.get(dispatch.id)
        if known and known.version >= dispatch.version:
            return
        if dispatch.state is State.ENDED:
            self._live.pop(dispatch.id, None)
            self._ended[dispatch.id] = dispatch
            if len(self._ended) > MAX_ENDED:
                oldest = min(self._ended.values(), key=lambda one: one.ended_at or 0)
                del self._ended[oldest.id]
        elif known or len(self._live) < MAX_LIVE:
            self._live[dispatch.id] = dispatch
        else:
            return
        self._changed[dispatch.id] = dispatch

    def apply_all(self, dispatches: Iterable[Dispatch]) -> None:
        for dispatch in dispatches:
            self.apply(dispatch)

    def drain(self) -> list[Dispatch]:
        """The current versions of the dispatches that changed since the last call."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed
