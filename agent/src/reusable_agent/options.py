"""The caller's room options, changed in what a session that outlives its user needs."""

import dataclasses
from dataclasses import dataclass

from livekit import rtc
from livekit.agents import NOT_GIVEN, NotGivenOr, room_io
from livekit.agents.job import DEFAULT_PARTICIPANT_KINDS


class UnsuitableOptionsError(ValueError):
    """The options ask for what a reusable agent cannot do; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is left of the caller's options for this package to do.

    Attributes:
        room_options: for `session.start`.
        chat: whether typed text is answered.
        on_text: the caller's own callback for typed text; None for the default answer.
        kinds: the kinds of participants that count as people.
        only_identity: the one person the caller wants to listen to; None for everybody.
    """

    room_options: room_io.RoomOptions
    chat: bool
    on_text: room_io.types.TextInputCallback | None
    kinds: frozenset[rtc.ParticipantKind.ValueType]
    only_identity: str | None


def terms_of(given: NotGivenOr[room_io.RoomOptions]) -> Terms:
    """Split the caller's options into what LiveKit does with them and what is done here.

    `close_on_disconnect` becomes False without a complaint: True is its default, and nobody can tell a
    default from a wish.

    Raises:
        UnsuitableOptionsError: they contradict an agent that stays.
    """
    options = given if isinstance(given, room_io.RoomOptions) else room_io.RoomOptions()
    if given is not NOT_GIVEN and options is not given:
        raise UnsuitableOptionsError(f"room_options must be RoomOptions, not {type(given).__name__}")
    if options.delete_room_on_close:
        raise UnsuitableOptionsError(
            "delete_room_on_close=True would throw people out at every redeploy of the worker; "
            "leave it False, and delete the room yourself where a conversation really ends"
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
