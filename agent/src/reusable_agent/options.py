"""Room options of the caller, adapted for a session that outlives its user."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from livekit import rtc
from livekit.agents import NOT_GIVEN, NotGivenOr, room_io
from livekit.agents.job import DEFAULT_PARTICIPANT_KINDS

_UNSUITABLE = {
    "room_input_options": "it is deprecated: use room_options",
    "room_output_options": "it is deprecated: use room_options",
    "capture_run": "it is for tests of an agent: use session.start there",
}


class UnsuitableOptionsError(ValueError):
    """Options that a reusable agent cannot support; the message names them and the reason."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The caller's options, as far as this package handles them.

    Attributes:
        room_options: for `session.start`.
        chat: whether typed text is answered.
        on_text: the caller's own callback for typed text; None for the default answer.
        kinds: the kinds of participants that count as people.
        only_identity: the one person whom the agent hears; None for everybody.
    """

    room_options: room_io.RoomOptions
    chat: bool
    on_text: room_io.types.TextInputCallback | None
    kinds: frozenset[rtc.ParticipantKind.ValueType]
    only_identity: str | None


def reject_unsuitable(given: Mapping[str, object]) -> None:
    """Raises: UnsuitableOptionsError: one of these arguments of `session.start` is not supported."""
    for name, value in given.items():
        # One that is switched off changes nothing.
        if name in _UNSUITABLE and value is not False:
            raise UnsuitableOptionsError(f"{name} is not supported here; {_UNSUITABLE[name]}")


def terms_of(given: NotGivenOr[room_io.RoomOptions]) -> Terms:
    """Split the caller's options into those for LiveKit and those for this package.

    `close_on_disconnect` silently becomes False: True is its default, and an explicit True looks the same.

    Raises:
        UnsuitableOptionsError: the options contradict an agent that stays.
    """
    options = given if isinstance(given, room_io.RoomOptions) else room_io.RoomOptions()
    if given is not NOT_GIVEN and options is not given:
        raise UnsuitableOptionsError(f"room_options must be RoomOptions, not {type(given).__name__}")
    if options.delete_room_on_close:
        raise UnsuitableOptionsError(
            "delete_room_on_close=True would remove people from the room at every redeploy of the worker; "
            "leave it False, and delete the room yourself when a conversation really ends"
        )
    text = options.get_text_input_options()
    own = text.text_input_cb if text is not None else None
    return Terms(
        room_options=dataclasses.replace(options, close_on_disconnect=False, text_input=False),
        chat=text is not None,
        on_text=None if own is room_io.TextInputOptions().text_input_cb else own,
        kinds=frozenset(options.participant_kinds or DEFAULT_PARTICIPANT_KINDS),
        only_identity=options.participant_identity or None,
    )
