"""One batch of changes in one transaction: what is read for the ledger, and what of it is written back."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from app.changes import Advance, Change, Due, RoomEvent, Snapshot
from app.docket import final_states
from app.ledger import Ledger
from app.lifecycle import LIVE_STATES, Dispatch, EndReason, State
from app.models import dispatches, history, participants, rooms, webhook_events
from app.presence import Kind, TrackedParticipant, TrackedRoom

#: All in one order, so that two replicas never wait for each other in a circle.
_LOCK_ROOMS = text(
    "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(name, 1) AS key"
    " FROM unnest(CAST(:names AS text[])) AS name ORDER BY key) AS keys"
)


def open_dispatches(names: Iterable[str]) -> Any:
    return select(dispatches).where(
        dispatches.c.room_name.in_(list(names)), dispatches.c.state != State.ENDED
    )


def dispatch_of(row: Row[Any]) -> Dispatch:
    values = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    values.pop("due_at")
    values["state"] = State(values["state"])
    values["end_reason"] = EndReason(values["end_reason"]) if values["end_reason"] else None
    return Dispatch(**values)


def load(connection: Connection, changes: Sequence[Change], ledger: Ledger) -> None:
    names = sorted({change.room_name for change in changes})
    if connection.dialect.name == "postgresql":
        # By name, for a room that no replica has seen yet has no row that could be locked.
        connection.execute(_LOCK_ROOMS, {"names": names})
    # The rows as well: the pruning takes no other lock.
    locked = select(rooms).where(rooms.c.name.in_(names)).order_by(rooms.c.name).with_for_update()
    for row in connection.execute(locked):
        ledger.rooms[row.name] = TrackedRoom(**row._mapping)  # noqa: SLF001 - as above
    for row in connection.execute(open_dispatches(names).with_for_update()):
        dispatch = dispatch_of(row)
        ledger.docket.dispatches[dispatch.id] = dispatch
    events = [change.event_id for change in changes if isinstance(change, RoomEvent)]
    if events:
        known = select(webhook_events.c.id).where(webhook_events.c.id.in_(events))
        ledger.seen_events.update(connection.scalars(known))
    if all(isinstance(change, Advance | Due) for change in changes):
        return
    sids = [p.sid for change in changes if isinstance(change, RoomEvent) and (p := change.participant)]
    sids += [p.sid for change in changes if isinstance(change, Snapshot) for p in change.participants]
    asked = [change.room_name for change in changes if isinstance(change, Snapshot)]
    wanted = or_(
        participants.c.sid.in_(sids),
        and_(participants.c.room_name.in_(asked), participants.c.left_at.is_(None)),
    )
    for row in connection.execute(select(participants).where(wanted)):
        values = dict(row._mapping)  # noqa: SLF001 - as above
        values["kind"] = Kind(values["kind"])
        ledger.participants[row.sid] = TrackedParticipant(**values)
    counted = (
        select(rooms.c.name, func.count())
        .join(participants, participants.c.room_sid == rooms.c.sid)
        .where(
            rooms.c.name.in_(names),
            rooms.c.finished_at.is_(None),
            participants.c.left_at.is_(None),
            participants.c.kind == Kind.PERSON,
        )
        .group_by(rooms.c.name)
    )
    ledger.people.update((row[0], row[1]) for row in connection.execute(counted))


def save(connection: Connection, ledger: Ledger) -> None:
    changed_rooms = [asdict(ledger.rooms[name]) for name in sorted(ledger.changed_rooms)]
    _upsert(connection, rooms, changed_rooms)
    changed = [_participant_values(ledger.participants[sid]) for sid in sorted(ledger.changed_participants)]
    _upsert(connection, participants, changed)
    if ledger.new_events:
        rows = [{"id": event_id, "received_at": ledger.now} for event_id in ledger.new_events]
        connection.execute(insert(webhook_events), rows)
    if not ledger.docket.transitions:
        return
    final = final_states(ledger.docket.transitions)
    # Ended and ending ones first: a successor takes the place that they leave in the unique index.
    ordered = sorted(final.values(), key=lambda dispatch: dispatch.state in LIVE_STATES)
    new = {t.after.id for t in ledger.docket.transitions if t.before is None}
    changed_rows = [_dispatch_values(dispatch) for dispatch in ordered if dispatch.id not in new]
    for values in changed_rows:
        connection.execute(update(dispatches).where(dispatches.c.id == values["id"]).values(values))
    new_rows = [_dispatch_values(dispatch) for dispatch in ordered if dispatch.id in new]
    if new_rows:
        connection.execute(insert(dispatches), new_rows)
    lines = [
        {
            "dispatch_row_id": transition.after.id,
            "at": ledger.now,
            "event": transition.event,
            "from_state": transition.before.state if transition.before else None,
            "to_state": transition.after.state,
            "people": transition.after.participant_count,
        }
        for transition in ledger.docket.transitions
    ]
    connection.execute(insert(history), lines)


def _upsert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    key = [column.name for column in table.primary_key]
    others = {
        column.name: statement.excluded[column.name] for column in table.columns if column.name not in key
    }
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), rows)


def _participant_values(participant: TrackedParticipant) -> dict[str, Any]:
    return {column.name: getattr(participant, column.name) for column in participants.columns}


def _dispatch_values(dispatch: Dispatch) -> dict[str, Any]:
    return {column.name: getattr(dispatch, column.name) for column in dispatches.columns}
