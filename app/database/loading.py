"""Loading and saving of the unit of work of one batch."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection

from app.database.returns import return_rows
from app.database.statements import Rows, batch_sql
from app.database.tables import dispatches, participants
from app.database.usage import usage_rows
from app.lifecycle import LIVE_STATES, Briefing, Dispatch, EndReason, State, Terms, Visitors
from app.state.changes import Advance, Change, Due, Intent, RoomEvent, RoomEventKind, Snapshot
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
    # This locks the rows too: the pruning takes no other lock.
    for name, sid, created_at, finished_at, generation, *headcount in sql.find(connection, sql.rooms, names):
        unit.headcounts[name] = Headcount(*headcount)
        unit.rooms[name] = TrackedRoom(
            name=name, sid=sid, created_at=created_at, finished_at=finished_at, generation=generation
        )
    for row in sql.find(connection, sql.open_dispatches, names):
        dispatch = dispatch_of(row)
        unit.dispatch_set.dispatches[dispatch.id] = dispatch
    if all(isinstance(change, Advance | Due) for change in changes):
        return
    _add_former(connection, changes, unit)
    claimed = [change.claim for change in changes if isinstance(change, Intent) and change.claim]
    if claimed:
        unit.claims.update(row[0] for row in sql.find(connection, sql.claims, claimed))
    events = [change for change in changes if isinstance(change, RoomEvent)]
    snapshots = [change for change in changes if isinstance(change, Snapshot)]
    if events:
        ids = [event.event_id for event in events]
        unit.seen_events.update(row[0] for row in sql.find(connection, sql.webhook_events, ids))
    keys = [(event.room.sid, event.participant.sid) for event in events if event.participant]
    for snapshot in snapshots:
        if snapshot.room:
            room_sid = snapshot.room.sid
            keys += [(room_sid, participant.sid) for participant in snapshot.participants]
    if keys:
        _add_participants(unit, sql.find_by_pairs(connection, sql.participants, keys))
    held = {dispatch.agent_identity for dispatch in unit.dispatch_set.dispatches.values()} - {None}
    inhabited = {snapshot.room_name for snapshot in snapshots} | {
        event.room_name for event in events if _is_agents_leave(event) or _takes_identity(event, held)
    }
    if inhabited:
        _add_participants(unit, sql.find(connection, sql.present, sorted(inhabited)))


def _add_former(connection: Connection, changes: Sequence[Change], unit: UnitOfWork) -> None:
    sql = batch_sql(connection)
    names = sorted({change.room_name for change in changes if isinstance(change, Intent)})
    for row in sql.find(connection, sql.former_dispatches, names) if names else ():
        former = dispatch_of(row)
        unit.dispatch_set.former[former.room_name, former.agent_name] = former


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
    if unit.changed_rooms:
        sql.put(connection, sql.put_rooms, [_room_values(unit, name) for name in sorted(unit.changed_rooms)])
    if unit.changed_participants:
        changed = map(unit.participants.__getitem__, sorted(unit.changed_participants))
        sql.put(connection, sql.put_participants, list(map(_participant_values, changed)))
    if unit.new_events:
        sql.put(connection, sql.add_webhook_events, [(event_id, unit.now) for event_id in unit.new_events])
    if unit.used_claims:
        sql.put(connection, sql.drop_claims, [(claim,) for claim in unit.used_claims])
    if unit.dispatch_set.transitions:
        _save_dispatches(connection, unit)
    if unit.dispatch_set.returns:
        sql.put(connection, sql.add_returns, return_rows(unit.dispatch_set.returns, unit.now))
    # In one order: two replicas never deadlock.
    if ended := sorted(unit.dispatch_set.ended_conversations):
        sql.put(connection, sql.forget_conversations, ended)
    if finished := sorted(unit.dispatch_set.finished_rooms):
        sql.put(connection, sql.forget_rooms, [(sid,) for sid in finished])


def _save_dispatches(connection: Connection, unit: UnitOfWork) -> None:
    sql = batch_sql(connection)
    final = final_states(unit.dispatch_set.transitions)
    # Ended and ending rows first: a successor takes their place in the unique index.
    ordered = sorted(final.values(), key=lambda dispatch: dispatch.state in LIVE_STATES)
    new = {t.after.id for t in unit.dispatch_set.transitions if t.before is None}
    if changed := [_changed_values(dispatch) for dispatch in ordered if dispatch.id not in new]:
        sql.put(connection, sql.change_dispatches, changed)
    if added := [_dispatch_values(dispatch) for dispatch in ordered if dispatch.id in new]:
        sql.put(connection, sql.add_dispatches, added)
    lines = [
        (
            transition.after.id,
            unit.now,
            transition.event,
            transition.before.state if transition.before else None,
            transition.after.state,
            transition.after.participant_count,
        )
        for transition in unit.dispatch_set.transitions
    ]
    sql.put(connection, sql.add_history, lines)
    if spent := list(usage_rows(unit.dispatch_set.transitions)):
        sql.put(connection, sql.add_usage, spent)
    if announced := list(event_rows(unit.dispatch_set.transitions, unit.now, unit.dispatch_set.new_id)):
        sql.put(connection, sql.add_events, announced)


def _room_values(unit: UnitOfWork, name: str) -> tuple[Any, ...]:
    room = unit.rooms[name]
    return (name, room.sid, room.created_at, room.finished_at, room.generation, *unit.headcounts[name])
