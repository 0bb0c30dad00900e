"""The transition table: what each event does in each state; printed in docs/lifecycle.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.lifecycle.model import LIVE_STATES, Effect, EndReason, Event, State


class Goal(StrEnum):
    """The target of a rule when it depends on the row."""

    KEEP = "keep"  #: the same state; times and counts are updated
    ARRIVED = "arrived"  #: starting, or active/idle when the agent joined before LiveKit's answer
    OCCUPANCY = "active/idle"  #: active with people in the room, else idle
    HEALED = "arrived if expired"  #: ARRIVED for a claim of the TTL; any other claim stands
    RETURNED = "idle if expired"  #: the same, but only with an agent: without one there is nothing to reuse
    ATTEMPT = "creating if people"  #: creating when people wait, else the same state
    NEWCOMER = "creating for a newcomer"  #: creating when the room was empty until now, else the same state
    RESTORED = "active/idle if drained"  #: OCCUPANCY for one that was to be relieved; any other claim stands
    DORMANT = "unavailable if ours"  #: a dispatch that no caller requested waits until a person joins


class Successor(StrEnum):
    """The dispatch that takes over, stored in the same transaction."""

    NONE = "-"
    NEXT_ATTEMPT = "next attempt"  #: creating; unavailable after the third dispatch without an agent
    RESTART = "restart"  #: creating with people in the room, else unavailable; none for `never`
    RESTART_ALWAYS = "restart if always"  #: the same, for AGENT_RESTART `always` only
    REPLACEMENT = "replacement"  #: creating, even in an empty room: a caller or a person wants an agent
    LATER = "later if ours"  #: unavailable, when no caller waits for the result
    RELIEF = "relief"  #: creating: it takes over while the one before still answers
    DORMANT = "dormant"  #: unavailable until a person joins
    ON_HOLD = "on hold"  #: on hold: no agent comes until it is resumed
    COMEBACK = "comeback if people"  #: creating, when people joined while a TTL claim was carried out


@dataclass(frozen=True)
class Rule:
    to: State | Goal
    effects: tuple[Effect, ...] = ()
    reason: EndReason | None = None
    successor: Successor = Successor.NONE


_KEEP = Rule(Goal.KEEP)
_CHECK = (Effect.CHECK,)
_CHECK_READY = (Effect.CHECK_READY,)
_REMOVE = (Effect.REMOVE,)
_CREATE = (Effect.CREATE,)
_EXPIRE = (Effect.EXPIRE,)

_C, _S, _A, _I, _U, _H, _E, _X = (
    State.CREATING,
    State.STARTING,
    State.ACTIVE,
    State.IDLE,
    State.UNAVAILABLE,
    State.ON_HOLD,
    State.ENDING,
    State.ENDED,
)
_WITH_DISPATCH = (_C, _S, _A, _I)
_WITH_AGENT = (_A, _I)


def _ending(reason: EndReason, successor: Successor = Successor.NONE) -> Rule:
    return Rule(_E, _REMOVE, reason, successor)


def _ended(reason: EndReason, successor: Successor = Successor.NONE) -> Rule:
    return Rule(_X, (), reason, successor)


#: What each event does in each state. A pair that is absent is ignored: the event is stale in that state.
TABLE: Mapping[Event, Mapping[State, Rule]] = {
    Event.DISPATCHED: {
        _C: Rule(Goal.ARRIVED, _CHECK_READY),
        _S: _KEEP,
        _A: _KEEP,
        _I: _KEEP,
        _U: Rule(Goal.ARRIVED),
        _E: _KEEP,
    },
    Event.NOT_DISPATCHED: {_C: _ended(EndReason.GONE, Successor.LATER)},
    Event.PEOPLE_IN: {
        _C: _KEEP,
        _S: _KEEP,
        _A: Rule(Goal.KEEP, _CHECK),
        _I: Rule(_A, _CHECK),
        _U: Rule(Goal.NEWCOMER, _CREATE),
        _H: _KEEP,
        _E: _KEEP,
    },
    Event.PEOPLE_OUT: {
        _C: Rule(Goal.DORMANT),
        _S: _KEEP,
        _A: Rule(_I),
        _I: _KEEP,
        _U: _KEEP,
        _H: _KEEP,
        _E: _KEEP,
    },
    Event.AGENT_IN: {
        _C: _KEEP,
        _S: Rule(Goal.OCCUPANCY, _CHECK_READY),
        # Another one than was thought.
        **dict.fromkeys(_WITH_AGENT, Rule(Goal.KEEP, _CHECK_READY)),
    },
    Event.READY: dict.fromkeys(_WITH_AGENT, _KEEP),
    Event.AGENT_LEFT: dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.AGENT_LEFT, Successor.RESTART_ALWAYS)),
    Event.PUBLISHER_LEFT: dict.fromkeys(_WITH_AGENT, Rule(_S)),
    Event.AGENT_HANDED_OVER: dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.AGENT_LEFT)),
    Event.AGENT_LOST: dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.AGENT_FAILED, Successor.RESTART)),
    Event.ROOM_FINISHED: dict.fromkeys((*LIVE_STATES, _E), _ended(EndReason.ROOM_FINISHED)),
    Event.REUSED: {_S: _KEEP, _A: _KEEP, _I: _KEEP, _U: Rule(_C, _CREATE)},
    Event.END_REQUESTED: {
        **dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.REQUESTED)),
        **dict.fromkeys((_U, _H), _ended(EndReason.REQUESTED)),
        _E: Rule(Goal.KEEP, (), EndReason.REQUESTED),
    },
    Event.SUPERSEDED: {
        **dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.REPLACED)),
        _U: _ended(EndReason.REPLACED),
    },
    Event.HOLD_REQUESTED: {
        **dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.ON_HOLD, Successor.ON_HOLD)),
        _U: Rule(_H),
        # What removes it goes on, for its own reason; nothing returns or follows from there.
        _E: Rule(Goal.KEEP, successor=Successor.ON_HOLD),
    },
    Event.RESUMED: {_H: Rule(_C, _CREATE)},
    Event.DRAINED: {
        # Its agent answers until the relief does.
        _A: Rule(_E, (), EndReason.DRAINED, Successor.RELIEF),
        _I: _ending(EndReason.DRAINED, Successor.DORMANT),
    },
    Event.RELIEF_AWAITED: {_E: _KEEP},
    Event.RELIEF_FAILED: {_E: Rule(Goal.RESTORED)},
    Event.RELIEVED: {_E: Rule(Goal.KEEP, _REMOVE)},
    Event.POLICY_CHANGED: dict.fromkeys(LIVE_STATES, _KEEP),
    Event.REFUTED: dict.fromkeys((_S, _A, _I), _ending(EndReason.REPLACED, Successor.REPLACEMENT)),
    Event.MISSING: {
        **dict.fromkeys((_S, _A, _I), _ended(EndReason.GONE, Successor.RESTART)),
        _E: _ended(EndReason.GONE),
    },
    Event.DUPLICATE: {
        **dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.DUPLICATE)),
        _U: _ended(EndReason.DUPLICATE),
    },
    Event.UNTAKEN: {_S: _ending(EndReason.NEVER_JOINED, Successor.NEXT_ATTEMPT)},
    Event.HELD: {_S: _KEEP},
    Event.JOIN_OVERDUE: {_S: _ending(EndReason.NEVER_JOINED, Successor.NEXT_ATTEMPT)},
    Event.TTL_EXPIRED: {
        **dict.fromkeys((_C, _S, _I), Rule(_E, _EXPIRE, EndReason.EXPIRED)),
        _U: _ended(EndReason.EXPIRED),
    },
    Event.WARNING_DUE: dict.fromkeys(_WITH_AGENT, Rule(Goal.KEEP, (Effect.WARN,))),
    Event.WARNED: dict.fromkeys(_WITH_AGENT, _KEEP),
    Event.SESSION_OVER: {
        **dict.fromkeys(_WITH_DISPATCH, _ending(EndReason.MAX_SESSION)),
        _U: _ended(EndReason.MAX_SESSION),
    },
    Event.RETRY_DUE: {
        _C: Rule(Goal.KEEP, _CREATE),
        _S: Rule(Goal.KEEP, (Effect.CHECK_JOB,)),
        _U: Rule(Goal.ATTEMPT, _CREATE),
        _E: Rule(Goal.KEEP, _REMOVE),
    },
    Event.OCCUPIED: {_E: Rule(Goal.HEALED)},
    Event.REMOVED: {_E: Rule(_X, (), None, Successor.COMEBACK)},
    Event.REMOVE_FAILED: {_E: Rule(Goal.RETURNED)},
}
