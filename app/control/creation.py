"""Creation of dispatches in LiveKit; a retry finds the dispatch of an earlier try."""

import json
import logging
from dataclasses import replace

import stamina

from app.clock import Clock
from app.control.features import Feature, Features
from app.control.policies import Policies
from app.control.processor import ChangeProcessor, new_row_id
from app.control.warm_claims import WarmClaimer
from app.errors import LiveKitRefused, LiveKitUnavailable, LiveKitUnreachable
from app.lifecycle import LIVE_STATES, SECOND_US, Briefing, Dispatch, Event, Signal
from app.lifecycle.relief import is_relief
from app.livekit.interface import RELIEVES_ATTRIBUTE, ListedDispatch, LiveKit, RoomInfo
from app.metrics.counters import Counters
from app.state.changes import RoomEvent, RoomEventKind

logger = logging.getLogger(__name__)

_TRIES = 3


class Creator:
    def __init__(
        self,
        livekit: LiveKit,
        processor: ChangeProcessor,
        counters: Counters,
        features: Features,
        clock: Clock,
        policies: Policies,
        claimer: WarmClaimer,
    ) -> None:
        self._livekit = livekit
        self._processor = processor
        self._counters = counters
        self._features = features
        self._clock = clock
        self._policies = policies
        self._claimer = claimer
        self._has_warned_of_short_rooms = False

    async def ensure_room(self, room_name: str) -> RoomInfo:
        """The room; if it does not exist, it is created with a timeout beyond the TTL of its agent."""
        timeout_s = self._policies.room_timeout_s
        room = await self._livekit.ensure_room(room_name, timeout_s)
        if room.departure_timeout_s < timeout_s and not self._has_warned_of_short_rooms:
            self._has_warned_of_short_rooms = True
            logger.warning(
                "Room closes before the TTL of its agent ends: it was created with a shorter timeout",
                extra={
                    "action": "short_room",
                    "room": room.name,
                    "departure_timeout_s": room.departure_timeout_s,
                    "wanted_s": timeout_s,
                },
            )
        return room

    async def create(self, dispatch: Dispatch) -> Dispatch:
        """Create the dispatch in LiveKit, or find it there, and return its row after that.

        Raises:
            LiveKitRefused, LiveKitUnreachable: it was not created; the row has ended.
            LiveKitUnavailable: it may have been created; the row stays, and its deadline retries.
        """
        return await self._create(dispatch, None, tries_before=1)

    async def create_new(self, dispatch: Dispatch, ensured: RoomInfo | None) -> Dispatch:
        """As `create`, for a row that was just stored: LiveKit cannot have its dispatch yet.

        `ensured`: the room that was just created for it; None: the room existed.
        """
        return await self._create(dispatch, ensured, tries_before=0)

    async def _create(self, dispatch: Dispatch, ensured: RoomInfo | None, *, tries_before: int) -> Dispatch:
        with self._counters.creation():
            try:
                room = ensured or await self.ensure_room(dispatch.room_name)
                await self._check_instance(dispatch, room)
                made = await self._provide(dispatch, tries_before)
            except (LiveKitRefused, LiveKitUnreachable):
                await self._processor.advance(dispatch, Signal(event=Event.NOT_DISPATCHED))
                raise
            return await self._record(dispatch, made)

    async def _provide(self, dispatch: Dispatch, tries_before: int) -> Signal:
        """A warm agent if one comes, else a dispatch in the room itself; the signal of it."""
        may_claim = self._claimer.serves(dispatch) and not await self._may_be_made(dispatch, tries_before)
        if dispatch.holding_room or may_claim:
            came = await self._claimer.bring(dispatch, briefing(dispatch))
            if came:
                return came
        return dispatched(await self._create_in_livekit(dispatch, tries_before))

    async def _may_be_made(self, dispatch: Dispatch, tries_before: int) -> bool:
        """Whether an earlier try may have made a dispatch in the room itself."""
        if not tries_before or dispatch.holding_room:
            return False
        try:
            return await find_in_livekit(self._livekit, dispatch, self._clock) is not None
        except LiveKitUnavailable:
            return True

    async def _check_instance(self, dispatch: Dispatch, room: RoomInfo) -> None:
        """Raises: LiveKitUnavailable: the row belongs to an earlier instance of the room."""
        if room.sid != dispatch.room_sid:
            started = RoomEvent(event_id=new_row_id(), kind=RoomEventKind.STARTED, room=room)
            await self._processor.submit_one(started)
            raise LiveKitUnavailable("The room was closed and created again during the request; retry")

    async def _create_in_livekit(self, dispatch: Dispatch, tries_before: int) -> ListedDispatch:
        async for attempt in stamina.retry_context(
            on=LiveKitUnavailable, attempts=_TRIES, timeout=None, wait_initial=1, wait_max=2, wait_jitter=0
        ):
            with attempt:
                found = None
                if tries_before + attempt.num > 1:
                    # The answer to an earlier try may have been lost.
                    found = await find_in_livekit(self._livekit, dispatch, self._clock)
                return found or await self._create_once(dispatch)
        raise AssertionError("the last try returns or raises")

    async def _create_once(self, dispatch: Dispatch) -> ListedDispatch:
        made = await self._livekit.create_dispatch(
            dispatch.room_name, dispatch.agent_name, dispatch.id, _for_job(dispatch)
        )
        if made.row_id is None:
            self._features.note_missing(Feature.ATTRIBUTES)
            if is_relief(dispatch):
                # It would not learn that another agent still answers.
                await self._livekit.delete_dispatch(dispatch.room_name, made.id)
                raise LiveKitRefused("This LiveKit keeps no attributes of dispatches")
        return made

    async def _record(self, dispatch: Dispatch, made: Signal) -> Dispatch:
        recorded = (await self._processor.advance(dispatch, made)).dispatch
        if recorded and recorded.state in LIVE_STATES and recorded.dispatch_id == made.dispatch_id:
            return recorded
        # The room was closed, or another process took the lease while LiveKit was slow, and created another.
        if made.agent_identity:
            await self._claimer.part(dispatch)
        else:
            await self._livekit.delete_dispatch(dispatch.room_name, made.dispatch_id or "")
        if recorded is None or recorded.state not in LIVE_STATES:
            raise LiveKitUnavailable("The room was closed during the request; retry")
        return recorded


def dispatched(listed: ListedDispatch) -> Signal:
    """The signal that LiveKit has the dispatch of a row."""
    return Signal(event=Event.DISPATCHED, dispatch_id=listed.id, dispatched_at=listed.created_at)


async def find_in_livekit(livekit: LiveKit, dispatch: Dispatch, clock: Clock) -> ListedDispatch | None:
    """The dispatch in LiveKit that carries the row's id.

    Before livekit-server 1.13.2 none does. Then it is one that was told the same, since the row was stored.
    """
    listed = await livekit.list_dispatches(dispatch.room_name)
    stored_at = livekit.now() - (clock.now() - dispatch.created_at) - SECOND_US
    metadata = briefing(dispatch).metadata

    def is_alike(found: ListedDispatch) -> bool:
        is_unmarked = found.row_id is None and found.agent_name == dispatch.agent_name
        return is_unmarked and found.created_at >= stored_at and found.briefing.metadata == metadata

    own = next((found for found in listed if found.row_id == dispatch.id), None)
    return own or next(filter(is_alike, listed), None)


def _for_job(dispatch: Dispatch) -> Briefing:
    """What LiveKit is given; an agent that takes over learns from whom."""
    told = briefing(dispatch)
    if not is_relief(dispatch) or not dispatch.former_agent:
        return told
    attributes = json.loads(told.attributes or "{}") | {RELIEVES_ATTRIBUTE: dispatch.former_agent}
    return replace(told, attributes=json.dumps(attributes))


def briefing(dispatch: Dispatch) -> Briefing:
    """The briefing with the person's time zone, where the metadata is empty or a JSON object."""
    fields = {"timezone": dispatch.timezone, "timezoneOffset": dispatch.timezone_offset_min}
    text = dispatch.briefing.metadata.lstrip() or "{}"
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return dispatch.briefing
    # A field of the caller's own stays, and so does all of its text: another JSON writer changes numbers.
    zone = {name: value for name, value in fields.items() if value is not None and name not in told}
    separator = ", " if zone and told else ""
    return replace(dispatch.briefing, metadata="{" + json.dumps(zone)[1:-1] + separator + text[1:])
