"""Loading and saving of the unit of work of one batch."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection

from app.database.returns import return_rows
from app.database.statements import Put, Question, Rows, batch_sql
from app.database.tables import dispatches, participants
from app.database.usage import usage_rows
from app.lifecycle import LIVE_STATES, Briefing, Dispatch, EndReason, State, Terms, Visitors
from app.state.changes import Change, Intent, RoomEvent, RoomEventKind, Snapshot, Transition
from app.state.dispatch_set import final_states
from app.state.events import event_rows
from app.state.presence import Headcount, ParticipantKind, TrackedParticipant, TrackedRoom
from app.state.unit_of_work import UnitOfWork

_DISPATCH_COLUMNS = tuple(column.name for column in dispatches.columns)
_DISPATCH_DERIVED = ("due_at",)
_BRIEFING_COLUMNS = tuple(entry.name for entry in fields(Briefing))
#: Where a dispatch has the value of each column.
_PLACES = {name: f"briefing.{name}" if name in _BRIEFING_COLUMNS else name for name in _DISPATCH_COLUMNS}
_IDENTIFYING, _TERMS = _DISPATCH_COLUMNS.index("id"), _DISPATCH_COLUMNS.index("terms")
_stored_values = attrgetter(*_PLACES.values())
_PARTICIPANT_COLUMNS = tuple(column.name for column in participants.columns)
_participant_values = attrgetter(*_PARTICIPANT_COLUMNS)


def participant_of(row: Sequence[Any]) -> TrackedParticipant:
    """Build a participant from a row with all columns of the table, in table order."""
    values = dict(zip(_PARTICIPANT_COLUMNS, row, strict=True))
    values["kind"] = ParticipantKind(values["kind"])
    values["is_phone"] = bool(values["is_phone"])
    values["is_announced"] = bool(values["is_announced"])
    return TrackedParticipant(**values)


def dispatch_of(row: Sequence[Any]) -> Dispatch:
    """Build a dispatch from a row with all columns of the table, in table order."""
    values = dict(zip(_DISPATCH_COLUMNS, row, strict=True))
    for name in _DISPATCH_DERIVED:
        del values[name]
    values["briefing"] = Briefing(**{name: values.pop(name) for name in _BRIEFING_COLUMNS})
    values["terms"] = _terms_of(values["terms"]) if values["terms"] else None
    values["state"] = State(values["state"])
    values["visitors"] = Visitors(values["visitors"])
    values["end_reason"] = EndReason(values["end_reason"]) if values["end_reason"] else None
    return Dispatch(**values)


def _dispatch_values(dispatch: Dispatch) -> tuple[Any, ...]:
    """The columns of a dispatch, in table order."""
    values = list(_stored_values(dispatch))
    values[_TERMS] = _terms_text(dispatch.terms) if dispatch.terms else None
    return tuple(values)


def _changed_values(dispatch: Dispatch) -> tuple[Any, ...]:
    """The same with the key last."""
    values = _dispatch_values(dispatch)
    return (*values[:_IDENTIFYING], *values[_IDENTIFYING + 1 :], values[_IDENTIFYING])


# Most dispatches of an agent name have the same terms, and every webhook of their rooms reads them.
@lru_cache(maxsize=1_024)
def _terms_of(text: str) -> Terms:
    return msgspec.json.decode(text, type=Terms, strict=False)


@lru_cache(maxsize=1_024)
def _terms_text(terms: Terms) -> str:
    return msgspec.json.encode(terms).decode()


def load(connection: Connection, changes: Sequence[Change], unit: UnitOfWork) -> None:
    sql = batch_sql(connection)
    names = sorted({change.room_name for change in changes})
    sql.lock(connection, names)
    events = [change for change in changes if isinstance(change, RoomEvent)]
    snapshots = [change for change in changes if isinstance(change, Snapshot)]
    intents = [change for change in changes if isinstance(change, Intent)]
    # This locks the rows of rooms and dispatches too: the pruning takes no other lock.
    questions: list[Question] = [
        (sql.rooms, names),
        (sql.open_dispatches, names),
        (sql.webhook_events, [event.event_id for event in events]),
        (sql.participants, _participant_keys(events, snapshots)),
    ]
    if intents:
        questions.append((sql.former_dispatches, sorted({intent.room_name for intent in intents})))
        questions.append((sql.claims, [intent.claim for intent in intents if intent.claim]))
    questions = [question for question in questions if question[1]]
    answers = sql.find_all(connection, questions)
    found = defaultdict[str, Rows](tuple, zip((one for one, _ in questions), answers, strict=True))
    for name, sid, created_at, finished_at, generation, *headcount in found[sql.rooms]:
        unit.headcounts[name] = Headcount(*headcount)
        unit.rooms[name] = TrackedRoom(
            name=name, sid=sid, created_at=created_at, finished_at=finished_at, generation=generation
        )
    for dispatch in map(dispatch_of, found[sql.open_dispatches]):
        unit.dispatch_set.dispatches[dispatch.id] = dispatch
    for former in map(dispatch_of, found[sql.former_dispatches]):
        unit.dispatch_set.former[former.room_name, former.agent_name] = former
    unit.claims.update(row[0] for row in found[sql.claims])
    unit.seen_events.update(row[0] for row in found[sql.webhook_events])
    _add_participants(unit, found[sql.participants])
    held = {dispatch.agent_identity for dispatch in unit.dispatch_set.dispatches.values()} - {None}
    inhabited = {snapshot.room_name for snapshot in snapshots} | {
        event.room_name for event in events if _is_agents_leave(event) or _takes_identity(event, held)
    }
    if inhabited:
        (present,) = sql.find_all(connection, [(sql.present, sorted(inhabited))])
        _add_participants(unit, present)


def _participant_keys(events: Iterable[RoomEvent], snapshots: Iterable[Snapshot]) -> list[tuple[str, str]]:
    keys = [(event.room.sid, event.participant.sid) for event in events if event.participant]
    for snapshot in snapshots:
        if snapshot.room:
            keys += [(snapshot.room.sid, participant.sid) for participant in snapshot.participants]
    return keys


def _is_agents_leave(event: RoomEvent) -> bool:
    """Whether what the leave means depends on who stays."""
    agent = event.participant
    return event.kind is RoomEventKind.LEFT and agent is not None and agent.kind is ParticipantKind.AGENT


def _takes_identity(event: RoomEvent, held: Collection[str | None]) -> bool:
    """Whether what a join or leave means depends on which agents are in."""
    return event.participant is not None and event.participant.identity in held


def _add_participants(unit: UnitOfWork, rows: Rows) -> None:
    for participant in map(participant_of, rows):
        unit.participants[participant.sid] = participant


def save(connection: Connection, unit: UnitOfWork) -> None:
    sql = batch_sql(connection)
    changed = map(unit.participants.__getitem__, sorted(unit.changed_participants))
    puts: list[Put] = [
        (sql.put_rooms, [_room_values(unit, name) for name in sorted(unit.changed_rooms)]),
        (sql.put_participants, list(map(_participant_values, changed))),
        (sql.add_webhook_events, [(event_id, unit.now) for event_id in unit.new_events]),
    ]
    if unit.dispatch_set.transitions:
        puts += _save_dispatches(connection, unit)
    if unit.dispatch_set.returns:
        puts.append((sql.add_returns, return_rows(unit.dispatch_set.returns, unit.now)))
    if puts := [put for put in puts if put[1]]:
        sql.put_all(connection, puts)
    if unit.used_claims:
        sql.put(connection, sql.drop_claims, [(claim,) for claim in unit.used_claims])
    # In one order: two replicas never deadlock.
    if ended := sorted(unit.dispatch_set.ended_conversations):
        sql.put(connection, sql.forget_conversations, ended)
    if finished := sorted(unit.dispatch_set.finished_rooms):
        sql.put(connection, sql.forget_rooms, [(sid,) for sid in finished])


def _save_dispatches(connection: Connection, unit: UnitOfWork) -> list[Put]:
    """Save what has changed; returns the rows that are new."""
    sql = batch_sql(connection)
    transitions = unit.dispatch_set.transitions
    final = final_states(transitions)
    # Ended and ending rows first: a successor takes their place in the unique index.
    ordered = sorted(final.values(), key=lambda dispatch: dispatch.state in LIVE_STATES)
    new = {transition.after.id for transition in transitions if transition.before is None}
    if changed := [_changed_values(dispatch) for dispatch in ordered if dispatch.id not in new]:
        sql.put(connection, sql.change_dispatches, changed)
    if spent := list(usage_rows(transitions)):
        sql.put(connection, sql.add_usage, spent)
    return [
        (sql.add_dispatches, [_dispatch_values(dispatch) for dispatch in ordered if dispatch.id in new]),
        (sql.add_history, [_history_values(transition, unit.now) for transition in transitions]),
        (sql.add_events, list(event_rows(transitions, unit.now, unit.dispatch_set.new_id))),
    ]


def _history_values(transition: Transition, now: int) -> tuple[Any, ...]:
    before, after = transition.before, transition.after
    return (
        after.id,
        now,
        transition.event,
        before.state if before else None,
        after.state,
        after.participant_count,
    )


def _room_values(unit: UnitOfWork, name: str) -> tuple[Any, ...]:
    room = unit.rooms[name]
    return (name, room.sid, room.created_at, room.finished_at, room.generation, *unit.headcounts[name])
