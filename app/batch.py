"""One batch of changes in one transaction: what is read for the ledger, and what of it is written back.

This runs for every webhook, so its SQL is plain text, made once and sent as it stands; docs/ingest.md has
what SQLAlchemy's expressions would cost here.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Column, Connection, Table

from app.changes import Advance, Change, Due, RoomEvent, Snapshot
from app.docket import final_states
from app.ledger import Ledger
from app.lifecycle import LIVE_STATES, Dispatch, EndReason, State
from app.models import dispatches, history, participants, rooms, webhook_events
from app.presence import Kind, TrackedParticipant, TrackedRoom

Rows = Sequence[Sequence[Any]]


def _find_by_cursor(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> Rows:
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def _run_by_cursor(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    with closing(connection.connection.cursor()) as cursor:
        cursor.executemany(statement, rows)


def _find_by_connection(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> Rows:
    return connection.exec_driver_sql(statement, parameters).all()


def _run_by_connection(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    connection.exec_driver_sql(statement, rows)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """In what the SQL of a batch differs between the two databases."""

    find: Callable[[Connection, str, tuple[Any, ...]], Rows]
    run: Callable[[Connection, str, list[tuple[Any, ...]]], None]
    #: A condition: among the values of the one parameter, a list of texts.
    among: str
    #: How that list is passed.
    pass_list: Callable[[list[str]], object]
    #: The place of the n-th parameter.
    place: Callable[[int], str]
    #: What makes the rows that are read wait for other transactions, and others for this one.
    lock_rows: str = ""
    #: All in one order, so that two replicas never wait for each other in a circle.
    lock_names: str = ""


DIALECTS = {
    # It takes one writer at a time: there is nobody to lock out.
    "sqlite": Dialect(
        # sqlite3's own errors say all that is asked of them.
        find=_find_by_cursor,
        run=_run_by_cursor,
        among="IN (SELECT value FROM json_each(?))",
        pass_list=json.dumps,
        place=lambda _number: "?",
    ),
    "postgresql": Dialect(
        # SQLAlchemy tells which errors mean that the connection is lost.
        find=_find_by_connection,
        run=_run_by_connection,
        among="= ANY(CAST($1 AS text[]))",
        pass_list=list,
        place="${}".format,
        lock_rows=" FOR UPDATE",
        lock_names="SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(name, 1) AS key"
        " FROM unnest(CAST($1 AS text[])) AS name ORDER BY key) AS keys",
    ),
}


class Statements:
    """The SQL of a batch for one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        among, lock = dialect.among, dialect.lock_rows
        self.find_rooms = f"{_select(rooms)} WHERE name {among} ORDER BY name{lock}"
        self.find_open = f"{_select(dispatches)} WHERE room_name {among} AND ended_at IS NULL{lock}"
        self.find_participants = f"{_select(participants)} WHERE sid {among}"
        of_room = f"room_sid IN (SELECT sid FROM rooms WHERE name {among})"  # noqa: S608 - our names
        self.find_present = f"{_select(participants)} WHERE {of_room} AND left_at IS NULL"
        self.find_events = f"SELECT id FROM webhook_events WHERE id {among}"  # noqa: S608
        self.put_rooms = _insert(rooms, dialect) + _or_update(rooms)
        self.put_participants = _insert(participants, dialect) + _or_update(participants)
        self.add_events = _insert(webhook_events, dialect)
        self.add_dispatches = _insert(dispatches, dialect)
        self.add_history = _insert(history, dialect, without=("id",))
        self.change_dispatches = _update(dispatches, dialect)


def _select(table: Table) -> str:
    return f"SELECT {', '.join(table.columns.keys())} FROM {table.name}"  # noqa: S608 - our names


def _insert(table: Table, dialect: Dialect, without: Sequence[str] = ()) -> str:
    names = [name for name in table.columns.keys() if name not in without]  # noqa: SIM118 - not a dict
    places = ", ".join(dialect.place(number) for number, _ in enumerate(names, 1))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - our names


def _or_update(table: Table) -> str:
    key = ", ".join(column.name for column in table.primary_key)
    news = ", ".join(f"{column.name} = excluded.{column.name}" for column in _others(table))
    return f" ON CONFLICT ({key}) DO UPDATE SET {news}"


def _update(table: Table, dialect: Dialect) -> str:
    """The key is the last parameter, behind all other columns in their order."""
    others = _others(table)
    news = ", ".join(f"{column.name} = {dialect.place(number)}" for number, column in enumerate(others, 1))
    (key,) = table.primary_key
    return f"UPDATE {table.name} SET {news} WHERE {key.name} = {dialect.place(len(others) + 1)}"  # noqa: S608


def _others(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if not column.primary_key]


_STATEMENTS = {name: Statements(dialect) for name, dialect in DIALECTS.items()}

_DISPATCH_COLUMNS = tuple(column.name for column in dispatches.columns)
_DISPATCH_DERIVED = ("due_at",)
_dispatch_values = attrgetter(*_DISPATCH_COLUMNS)
_changed_values = attrgetter(*(column.name for column in _others(dispatches)), "id")
_participant_values = attrgetter(*(column.name for column in participants.columns))


def dispatch_of(row: Sequence[Any]) -> Dispatch:
    """The dispatch of a row with all columns of the table, in their order."""
    values = dict(zip(_DISPATCH_COLUMNS, row, strict=True))
    for name in _DISPATCH_DERIVED:
        del values[name]
    values["state"] = State(values["state"])
    values["end_reason"] = EndReason(values["end_reason"]) if values["end_reason"] else None
    return Dispatch(**values)


def load(connection: Connection, changes: Sequence[Change], ledger: Ledger) -> None:
    sql = _STATEMENTS[connection.dialect.name]
    names = sorted({change.room_name for change in changes})
    if sql.dialect.lock_names:
        # By name, for a room that no replica has seen yet has no row that could be locked.
        _find(connection, sql, sql.dialect.lock_names, names)
    # The rows as well: the pruning takes no other lock.
    for name, sid, created_at, finished_at, generation, people in _find(
        connection, sql, sql.find_rooms, names
    ):
        ledger.people[name] = people
        ledger.rooms[name] = TrackedRoom(
            name=name, sid=sid, created_at=created_at, finished_at=finished_at, generation=generation
        )
    for row in _find(connection, sql, sql.find_open, names):
        dispatch = dispatch_of(row)
        ledger.docket.dispatches[dispatch.id] = dispatch
    if all(isinstance(change, Advance | Due) for change in changes):
        return
    events = [change.event_id for change in changes if isinstance(change, RoomEvent)]
    ledger.seen_events.update(row[0] for row in _find(connection, sql, sql.find_events, events))
    sids = [p.sid for change in changes if isinstance(change, RoomEvent) and (p := change.participant)]
    sids += [p.sid for change in changes if isinstance(change, Snapshot) for p in change.participants]
    _take_participants(ledger, _find(connection, sql, sql.find_participants, sids))
    asked = [change.room_name for change in changes if isinstance(change, Snapshot)]
    _take_participants(ledger, _find(connection, sql, sql.find_present, asked))


def _find(connection: Connection, sql: Statements, statement: str, wanted: list[str]) -> Rows:
    if not wanted:
        return ()
    return sql.dialect.find(connection, statement, (sql.dialect.pass_list(wanted),))


def _take_participants(ledger: Ledger, rows: Rows) -> None:
    for sid, room_name, room_sid, kind, identity, agent_name, left_at, leave_reason, generation in rows:
        ledger.participants[sid] = TrackedParticipant(
            sid=sid,
            room_name=room_name,
            room_sid=room_sid,
            kind=Kind(kind),
            identity=identity,
            agent_name=agent_name,
            left_at=left_at,
            leave_reason=leave_reason,
            generation=generation,
        )


def save(connection: Connection, ledger: Ledger) -> None:
    sql = _STATEMENTS[connection.dialect.name]
    changed_rooms = [_room_values(ledger, name) for name in sorted(ledger.changed_rooms)]
    _run(connection, sql, sql.put_rooms, changed_rooms)
    changed = [_participant_values(ledger.participants[sid]) for sid in sorted(ledger.changed_participants)]
    _run(connection, sql, sql.put_participants, changed)
    _run(connection, sql, sql.add_events, [(event_id, ledger.now) for event_id in ledger.new_events])
    if not ledger.docket.transitions:
        return
    final = final_states(ledger.docket.transitions)
    # Ended and ending ones first: a successor takes the place that they leave in the unique index.
    ordered = sorted(final.values(), key=lambda dispatch: dispatch.state in LIVE_STATES)
    new = {t.after.id for t in ledger.docket.transitions if t.before is None}
    changed_rows = [_changed_values(dispatch) for dispatch in ordered if dispatch.id not in new]
    _run(connection, sql, sql.change_dispatches, changed_rows)
    new_rows = [_dispatch_values(dispatch) for dispatch in ordered if dispatch.id in new]
    _run(connection, sql, sql.add_dispatches, new_rows)
    lines = [
        (
            transition.after.id,
            ledger.now,
            transition.event,
            transition.before.state if transition.before else None,
            transition.after.state,
            transition.after.participant_count,
        )
        for transition in ledger.docket.transitions
    ]
    _run(connection, sql, sql.add_history, lines)


def _run(connection: Connection, sql: Statements, statement: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        sql.dialect.run(connection, statement, rows)


def _room_values(ledger: Ledger, name: str) -> tuple[Any, ...]:
    room = ledger.rooms[name]
    return (name, room.sid, room.created_at, room.finished_at, room.generation, ledger.people[name])
